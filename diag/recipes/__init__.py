"""What can be trained: the techniques of the field by name, one file per section, and the Recipe that names them."""
