"""Shards: the files that hold the rows of a site, as written, compressed or quantised."""
