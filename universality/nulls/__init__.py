"""Other explanations of a correlation: token, position, document, and too few sources of text."""
