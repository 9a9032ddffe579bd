"""Which features of two dictionaries are one: probes, signatures, atlas, matches, nulls."""
