"""Takes batches from producers and commits them to the disk."""
