"""A trained dictionary as a module of torch, and within a live model."""
