"""How long it takes from an empty environment to a feature's texts, by the README's lines alone.

A virtual environment is made in a temporary directory; the install line of the README's section
"From your own loop" is run with pip's configuration and cache as they are, with this tree in the
place of the released package; then that section's program, which records a tiny TransformerLens
model, trains, and prints the contexts of a feature. Both are read from the README. It takes minutes
and needs a package index, so it is measured with ``--full`` only:
``python benchmarks/hand.py --only first_feature --full``, or
``PYTHONPATH=src:benchmarks python -m hand_figures.first_feature --json --full``.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from house_figures.figure import Figure, show

ROOT = Path(__file__).resolve().parents[2]
_SECTION = "## From your own loop\n"


@dataclass(frozen=True, kw_only=True)
class OwnLoop:
    """What the README tells a newcomer to install and to run."""

    packages: list[str]
    """What is given to ``pip install``."""
    program: str
    """The program."""


def own_loop(readme: str) -> OwnLoop:
    """Return the install line and the program of the README's section about own loops.

    Raises:
        ValueError: the README has no such section, install line or program.
    """
    section = readme.partition(_SECTION)[2].partition("\n## ")[0]
    installed = re.search(r"```\npip install (.*)\n```", section)
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    if installed is None or program is None:
        raise ValueError(f"the README has no install line or program under {_SECTION!r}")
    return OwnLoop(packages=shlex.split(installed[1]), program=program[1])


def measure(*, is_full: bool) -> Iterator[dict[str, object]]:
    """Do what a newcomer does, and tell the minutes; without ``is_full`` nothing is measured."""
    minutes, peers = None, dict[str, object](reason="measured with --full: it installs packages")
    if is_full:
        with tempfile.TemporaryDirectory(prefix="isogloss-first-") as folder:
            minutes, peers = _walk(Path(folder))
    yield Figure(
        figure="first_feature",
        value=minutes,
        bar=5.0,
        unit="minutes",
        peers=peers,
        is_doubtful=is_full and not peers.get("contexts"),
    ).to_dict()


def _walk(folder: Path) -> tuple[float, dict[str, object]]:
    told = own_loop((ROOT / "README.md").read_text())
    began = time.perf_counter()
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    wanted = [
        f"{ROOT}{name[8:]}" if name.startswith("isogloss") else name for name in told.packages
    ]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONSAFEPATH")
    }
    environment["PIP_CONSTRAINT"] = str(ROOT / "constraints.txt")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *wanted], env=environment, check=True
    )
    installed = time.perf_counter()
    (folder / "loop.py").write_text(told.program)
    ended = subprocess.run(
        [python, "loop.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    done = time.perf_counter()
    return (done - began) / 60, {
        "install_minutes": round((installed - began) / 60, 2),
        "contexts": sum("[" in line for line in ended.stdout.splitlines()[1:]),
        "said": ended.stdout[-400:],
        "error": ended.stderr[-400:] if ended.returncode else "",
    }


if __name__ == "__main__":
    sys.exit(show(measure(is_full="--full" in sys.argv), is_json="--json" in sys.argv))
