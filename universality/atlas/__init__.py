"""One feature at a time: the features of other dictionaries that are most like it."""
