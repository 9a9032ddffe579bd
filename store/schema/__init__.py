"""Values that describe recordings, batches and documents."""
