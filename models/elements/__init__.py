"""What of a module a site names: an output, an element of it, an input, heads, patterns."""
