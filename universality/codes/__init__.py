"""A dictionary on a probe: its codes over the segments, and where its features fire."""
