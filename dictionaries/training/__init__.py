"""Training of one dictionary: what a run does, its loop, its state, and what survives a kill."""
