"""``python -m isogloss.kernels.testing.matrix``."""

import sys

from isogloss.kernels.testing.matrix.compile_all import main

sys.exit(main(sys.argv[1:]))
