"""Recording activations of a live model or of documents."""
