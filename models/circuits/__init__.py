"""Circuits: which heads and MLPs, and which of their edges, a model needs for what it says."""
