"""Files that know no lane: arrays, codes, documents, headers."""
