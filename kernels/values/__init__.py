"""Arguments and results of the operations: codes, sums, settings, losses, scratch memory."""
