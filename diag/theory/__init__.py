"""What should be seen: mean-field predictions of the size of signals and gradients, numbers in and numbers out."""
