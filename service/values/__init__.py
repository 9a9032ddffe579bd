"""What clients get back, and the values they pass."""
