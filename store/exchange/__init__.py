"""Rows in and out in other people's formats."""
