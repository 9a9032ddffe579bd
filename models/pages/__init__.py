"""Pages that stand alone: one shell, one set of colours, and labels of tokens."""
