"""What ``benchmarks/house.py`` counts, measures and runs."""
