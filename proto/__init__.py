"""isogloss.v1: the wire format, generated code only."""
