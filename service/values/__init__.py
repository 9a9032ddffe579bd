"""Results that clients get, and values that they pass."""
