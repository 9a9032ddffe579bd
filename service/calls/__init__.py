"""What answers each call."""
