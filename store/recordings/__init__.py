"""Stores and recordings: the objects that users of the store hold."""
