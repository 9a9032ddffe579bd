"""Parts of benchmarks/universality.py."""
