"""Training of one dictionary: plan, loop, state, and checkpoints that survive a kill."""
