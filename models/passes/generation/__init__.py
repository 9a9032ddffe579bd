"""Passes that go on from each other, as in text generation: one document a sequence."""
