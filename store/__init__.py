"""Recordings on disk: lanes, commits, reading; the files of probes and codes."""
