"""Whether two models have the same weights: samples of each, and what they say."""
