"""A live torch module: sites, capture, splice, tokens and spans."""
