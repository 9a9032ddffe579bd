"""Direct lanes: written by another process on the same storage, not by the store's owner."""
