"""Between our values and messages."""
