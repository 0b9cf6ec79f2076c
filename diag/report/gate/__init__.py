"""A gate's verdict for people and for machines."""
