"""Wirings: each says which sites a dictionary reads and which it reconstructs. One a file."""
