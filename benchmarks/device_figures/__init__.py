"""Parts of benchmarks/device.py."""
