"""A real writer process, killed at random moments."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isogloss.store import Store
from isogloss.store.testing import check_sample
from isogloss.store.testing.writer import PRODUCERS


def kill_loop(root: Path, kills: int, seed: int) -> int:
    """Kill the writer again and again; return how many batches were acknowledged."""
    chance = random.Random(seed)
    acknowledged: dict[str, int] = dict.fromkeys(PRODUCERS, 0)
    for kill in range(kills):
        writer = subprocess.Popen(
            [sys.executable, "-m", "isogloss.store.testing.writer", str(root)],
            stdout=subprocess.PIPE,
            text=True,
        )
        if writer.stdout is None:
            raise RuntimeError("the writer has no output")
        with writer.stdout:
            if chance.random() < 0.8:
                note(acknowledged, writer.stdout.readline())
                time.sleep(chance.random() * 0.1)
            else:
                time.sleep(chance.random() * 0.4)
            writer.kill()
            for line in writer.stdout.read().splitlines(keepends=True):
                note(acknowledged, line)
        writer.wait()
        if kill % 7 == 6:
            check_store(root, acknowledged)
    check_store(root, acknowledged)
    check_statistics(root)
    return sum(acknowledged.values())


def note(acknowledged: dict[str, int], line: str) -> None:
    if line.endswith("\n"):
        producer, sequence = line.split()
        if int(sequence) != acknowledged[producer] + 1:
            # an acknowledgement may be cut off with its writer; the rows are there all the same
            assert int(sequence) > acknowledged[producer]
        acknowledged[producer] = int(sequence)


def check_store(root: Path, acknowledged: dict[str, int]) -> None:
    with Store.open(root) as store:
        recording = store.recording("sample")
        check_sample(recording.reader(), acknowledged)
        assert [lane.seal.damage for lane in recording.lanes() if lane.seal] == [""] * len(
            recording.lanes()
        )


def check_statistics(root: Path) -> None:
    with Store.open(root) as store:
        recording = store.recording("sample")
        recording.derive()
        reader = recording.reader()
        for site in recording.spec.sites:
            values = reader.read(site.name, 0, reader.rows).astype(np.float64)
            found = recording.statistics(site.name)
            assert (found.count, found.nonfinite) == (len(values), 0)
            np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-6)
            np.testing.assert_allclose(found.m2, values.var(0) * len(values), rtol=2e-6)


def test_twenty_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    assert kill_loop(tmp_path / "store", 20, seed=1) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    for part in range(20):
        assert kill_loop(tmp_path / str(part), 50, seed=part) > 0
