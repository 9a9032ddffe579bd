"""Parts of benchmarks/capture.py."""
