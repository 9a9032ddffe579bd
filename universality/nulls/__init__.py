"""What else could explain a correlation: strata, shuffled rows, and too few sources of text."""
