"""How many errors of users end in a raw traceback, or in an error that nobody expected.

Forty lie in a command's words (``planted_errors.py``), the others around it (``situations.py``).
Runs alone: ``PYTHONPATH=src:benchmarks python -m hand_figures.raw_traceback --json``.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from house_figures.figure import Figure, show

from hand_figures.planted_errors import PLANTED, Planted, environment_of, words_of
from hand_figures.situations import SITUATIONS, complaint_of, make_place


def complaint(planted: Planted, place: Path, code: int, out: str, err: str) -> str:
    """Say what is wrong with how a command ended; empty where nothing is.

    Args:
        planted: the error.
        place: the directory of the places.
        code: exit code of the command.
        out: its standard output.
        err: its standard error.
    """
    said = planted.said.replace("{place}", str(place))
    if "Traceback (most recent call last)" in out + err:
        return "a raw traceback"
    if "a defect in isogloss" in err:
        return "an error that nobody expected"
    if code != (2 if planted.is_usage else 1):
        return f"exit code {code}"
    if said not in err:
        return f"{said!r} is not said"
    if not planted.is_usage and (not err.startswith("error: ") or err.count("\n") != 1):
        return "not one line"
    return ""


def measure() -> Iterator[dict[str, object]]:
    """Run each command in a process of its own, as users do."""
    with tempfile.TemporaryDirectory(prefix="isogloss-hand-") as folder:
        place = Path(folder)
        make_place(place)

        def run(planted: Planted) -> tuple[str, str, str]:
            ended = subprocess.run(
                [sys.executable, "-m", "isogloss", *words_of(planted, place)],
                env=environment_of(planted, place),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=300,
                check=False,
            )
            found = complaint(planted, place, ended.returncode, ended.stdout, ended.stderr)
            return planted.name, found, ended.stderr.strip()[-200:]

        with ThreadPoolExecutor(1) as pool:
            ended = list(pool.map(run, PLANTED))
        for situation in SITUATIONS:
            found = situation.make(place)
            ended.append((situation.name, complaint_of(situation, found), found.err[-200:]))
    raw = [name for name, found, _ in ended if "traceback" in found or "nobody" in found]
    others = {name: f"{found}: {err}" for name, found, err in ended if found and name not in raw}
    yield Figure(
        figure="raw_traceback",
        value=float(len(raw)),
        bar=0.0,
        unit=f"of {len(ended)} planted errors",
        peers={"raw": raw, "other complaints": others},
        is_doubtful=bool(others) or len(PLANTED) != 40,
    ).to_dict()


if __name__ == "__main__":
    sys.exit(show(measure(), is_json="--json" in sys.argv))
