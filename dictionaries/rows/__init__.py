"""Rows of recordings as torch tensors."""
