"""Experiments above training: rows of known truth, sweeps, frontiers, scaling laws."""
