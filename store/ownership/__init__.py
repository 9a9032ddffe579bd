"""Ownership of a store, and the catalog of its resources."""
