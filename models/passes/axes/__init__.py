"""The axes and the order of token ids, followed through the operations of a pass."""
