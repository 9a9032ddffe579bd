"""All features of two dictionaries: which pairs are one feature, and what that is worth."""
