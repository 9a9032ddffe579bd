"""Figures of the service, measured on real server processes."""
