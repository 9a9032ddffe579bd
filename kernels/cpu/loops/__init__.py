"""Loops and helpers that several operations on the CPU share."""
