"""Kinds of dictionary: activation, loss and state of one architecture a file."""
