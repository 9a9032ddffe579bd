"""The text on which features are compared: documents, segments, and their rows."""
