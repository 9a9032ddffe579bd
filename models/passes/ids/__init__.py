"""Which token ids the rows of a site are of: what the modules around it read."""
