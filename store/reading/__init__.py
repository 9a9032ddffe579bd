"""Pinned readers of recordings."""
