"""The work that the owner of a store does for its clients."""
