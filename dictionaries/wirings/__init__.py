"""Wirings: which sites go into a dictionary and which come out, one a file."""
