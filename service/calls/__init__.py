"""The handlers of all calls."""
