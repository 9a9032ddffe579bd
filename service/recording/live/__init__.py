"""A live model that is recorded: its recorder, and how it is opened."""
