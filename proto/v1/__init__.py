"""Messages and services of package isogloss.v1."""
