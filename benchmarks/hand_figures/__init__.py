"""Figures of dictionaries in the hand: weights on the wire, passports, splices."""
