"""Parts of benchmarks/mechanisms.py."""

import sys

# transformers looks for a package of this name, and would find the benchmark or the room
sys.modules.setdefault("kernels", None)  # pyright: ignore[reportArgumentType] (None: not there)
