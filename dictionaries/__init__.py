"""Sparse dictionaries: architectures, losses, training, checkpoints, evaluation."""
