"""Questions about features, answered from what is stored."""
