"""Checks of an operation's arguments, and the choice of its kernels by device."""
