"""Match all features of two dictionaries: find the pairs, and say how sure each one is."""
