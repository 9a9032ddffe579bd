"""Figures of the device's lane: a real run where there is a device, else its dry run."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_LANE = Path(__file__).parents[1] / "device.py"


def device_figures() -> Iterator[dict[str, object]]:
    """What ``benchmarks/device.py`` prints; without a device its own figures have no value."""
    done = subprocess.run(
        [sys.executable, str(_LANE), "--json"], capture_output=True, text=True, timeout=600
    )
    sys.stderr.write(done.stderr)
    yield from json.loads(done.stdout)["figures"]
