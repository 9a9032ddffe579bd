"""Who owns a store, and the catalog of what is in it."""
