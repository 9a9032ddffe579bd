"""Lanes, each written by one writer until it ends: write, seal, recover and read them."""
