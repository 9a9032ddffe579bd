"""Contracts that implementations of the service's seams must keep."""
