"""Ranks of torchrun that record, one of them killed and started again, beside one process.

``PYTHONPATH=benchmarks:src python -m capture_figures.ranks_exact [RUNS]``
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from house_figures.figure import Figure
from rank_processes import run_torchrun

import isogloss
from capture_figures.rank_loop import SITES, WRAPPERS, Plan
from isogloss.service.client.destination import TOKEN_VARIABLE

Row = tuple[int, int, int, bytes]
"""Document, step, position, and the bits of all sites."""
_SERVE = "from isogloss.service.cli.main import main; main()"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What came of a run of torchrun."""

    lives: Counter[str]
    """How many ranks ended well, by the number of times that they had been started again."""
    first_steps: tuple[int, ...]
    """With which step each of these began."""
    error: str
    """What torchrun wrote, where it failed."""


@contextmanager
def served(store: Path) -> Generator[str]:
    """Serve a store over TCP for the length of a block; gives the address."""
    words = ["serve", "--store", str(store), "--listen", "127.0.0.1:0", "--json"]
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said = ""
        for line in server.stdout or ():
            said += line
            if line == "}\n":
                break
        yield cast("str", json.loads(said)["addresses"][0])
    finally:
        server.terminate()
        server.communicate(timeout=60)


def run_ranks(plan: Plan, store: Path) -> Ended:
    """Run a plan: a single process, or ranks by torchrun, which may start them again once."""
    said, errors, code = run_torchrun(
        ["-m", "capture_figures.rank_loop", *plan.words()],
        0 if plan.wrapper == "one" else plan.ranks,
        restarts=1,
        more={TOKEN_VARIABLE: (store / "token").read_text().strip()},
    )
    return Ended(
        lives=Counter(str(one["life"]) for one in said),
        first_steps=tuple(cast("int", one["first"]) for one in said),
        error=errors if code else "",
    )


def rows_of(store: Path, recording: str) -> tuple[frozenset[Row], int]:
    """Return the rows of a recording as a set, and how many there are."""
    with isogloss.connect(store) as client:
        columns = client.tokens(recording)
        bits = np.concatenate([client.read(recording, site) for site in SITES], axis=1)
    whole = zip(
        columns.document.tolist(),
        columns.step.tolist(),
        columns.position.tolist(),
        (row.tobytes() for row in bits),
        strict=True,
    )
    return frozenset(whole), len(bits)


def plans(runs: int, address: str, folder: Path) -> Sequence[Plan]:
    """Return plans of each wrapper in turn, both routes, and both ways of going on.

    Which rank is killed, in which step and how long after it began, is drawn.
    """
    chance = np.random.default_rng()
    made: list[Plan] = []
    for number in range(runs):
        turn = number // len(WRAPPERS)
        made.append(
            Plan(
                address=address,
                recording=f"ranks-{number}",
                wrapper=WRAPPERS[number % len(WRAPPERS)],
                direct=(number + turn) % 2 == 1,
                kill=int(chance.integers(4)),
                kill_step=int(chance.integers(6)),
                kill_after_s=float(chance.exponential(0.02)),
                saved=f"{folder}/saved-{number}" if (number // 2 + turn) % 2 else "",
            )
        )
    return made


def is_equal(plan: Plan, store: Path, wanted: frozenset[Row]) -> tuple[bool, str]:
    """Run ranks; say whether their rows are those of one process, stored once, and what came."""
    ended = run_ranks(plan, store)
    words = f"{plan.wrapper}, {'direct' if plan.direct else 'TCP'}"
    if plan.saved:
        words += f", went on from step {max(ended.first_steps, default=-1)}"
    words += (
        f", rank {plan.kill} killed {plan.kill_after_s * 1e3:.0f} ms into step {plan.kill_step}"
    )
    if ended.error:
        return False, f"{words}: {_why(ended.error)}"
    found, count = rows_of(store, plan.recording)
    if ended.lives["1"] != plan.ranks:  # of the first life, others may have ended before the kill
        return False, f"{words}: ranks ended in their lives {dict(ended.lives)}"
    return found == wanted and count == len(wanted), (
        f"{words}: {len(found & wanted)} of {len(wanted)} rows right, {count} stored"
    )


def _why(said: str) -> str:
    """Return the last errors in what torchrun wrote."""
    lines = [line for line in said.splitlines() if "Error: " in line]
    return " | ".join(lines[-4:]) or said[-400:]


def ranks_exact(runs: int = 20, *, show: bool = False) -> Figure:
    """Measure [ranks_exact]: of torchrun's runs, those whose rows are one process's to the bit.

    Args:
        runs: runs of four ranks, of which one kills itself at a random moment.
        show: whether to print each run.
    """
    found: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="isogloss-ranks-") as place:
        folder = Path(place)
        store = folder / "store"
        with served(store) as address:
            alone = run_ranks(Plan(address=address, recording="one", wrapper="one"), store)
            wanted, count = rows_of(store, "one")
            for plan in plans(runs, address, folder):
                is_right, words = is_equal(plan, store, wanted)
                found[f"{plan.recording}: {words}"] = is_right
                if show:
                    print("equal" if is_right else "DIFFERS", words, flush=True)
    return Figure(
        figure="ranks_exact",
        value=20.0 * sum(found.values()) / runs,
        bar=20,
        at_most=False,
        unit="of 20 runs of torchrun",
        peers={
            "rows": count,
            "runs": runs,
            "that differ": [words for words, is_right in found.items() if not is_right],
            "all": list(found),
        },
        runs=runs,
        is_doubtful=bool(alone.error) or len(wanted) != count,
    )


if __name__ == "__main__":
    print(ranks_exact(*(int(word) for word in sys.argv[1:]), show=True).to_dict())
