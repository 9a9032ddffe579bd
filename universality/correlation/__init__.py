"""Pearson correlation between features, exact, from sparse codes in memory."""
