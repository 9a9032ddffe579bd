"""Read the forward passes of a live module: which tokens each read, and their rows at its sites."""
