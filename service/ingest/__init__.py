"""Batches on their way to the disk."""
