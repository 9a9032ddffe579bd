"""Dictionaries in the hand: weights into this process, arrays and tensors alike."""
