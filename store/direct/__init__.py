"""Lanes that another process writes past the owner."""
