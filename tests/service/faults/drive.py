"""Do random faults to a served store, one after another, and check after each that all goes on.

drive.py DIRECTORY --seed N --rounds N: goes on where an earlier run in the directory ended. A run
that failed is done again by the same seed in a new directory; `--only` names the faults to do.
"""

import argparse
import random
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.service.faults.faults import FAULTS, LONG, Fault, deck
from tests.service.faults.world import World


def drive(
    directory: Path,
    seed: int,
    rounds: int,
    faults: Mapping[str, Fault],
    *,
    once: Collection[str] = (),
    is_told: bool = False,
) -> World:
    """Do so many rounds, or those that an earlier run left; then end everything and check all.

    Args:
        directory: of the store and what was promised.
        seed: which faults, when.
        rounds: how many.
        faults: the kinds to choose from.
        once: those that come once.
        is_told: whether each round is written to standard output.

    Returns:
        The world, at its end.
    """
    world = World(directory)
    try:
        world.begin()
        began = time.monotonic()
        for number, (name, one) in enumerate(deck(seed, rounds, faults, once)):
            if number < world.round:
                continue
            if is_told:
                _say(f"{time.monotonic() - began:8.1f} s  {number}  {name}")
            try:
                faults[name](world, random.Random(one))
                world.wait_for_progress()
                world.keep_working()
            except BaseException as error:
                error.add_note(f"round {number} of seed {seed}: {name} ({one})")
                raise
            world.round = number + 1
            world.save()
        world.end()
        world.save()
    finally:
        world.kill()
    return world


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", action="append", help="name of a fault; repeat for several")
    parser.add_argument("--long", action="store_true", help="also what lasts longer than leases")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    faults = {**FAULTS, **(LONG if given.long else {})}
    if given.only:
        faults = {name: faults[name] for name in given.only}
    world = drive(given.directory, given.seed, given.rounds, faults, is_told=True)
    found = f"{world.promised} batches, {world.jobs} jobs"
    _say(f"{given.rounds} rounds: {found}, none lost or doubled")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
