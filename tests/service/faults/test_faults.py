"""A served store under faults of every kind: nothing acknowledged is lost or doubled."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.service.faults.drive import drive
from tests.service.faults.faults import DEAR, FAULTS, LONG, deck
from tests.service.faults.world import World


def test_a_seed_gives_the_same_faults_and_every_kind_of_them() -> None:
    assert deck(3, 30, FAULTS) == deck(3, 30, FAULTS)
    assert deck(3, 30, FAULTS) != deck(4, 30, FAULTS)
    assert deck(3, 60, FAULTS)[:30] == deck(3, 60, FAULTS)[:30]
    found = [name for name, _ in deck(5, 30, FAULTS, once=DEAR)]
    assert set(found) == set(FAULTS)
    assert all(found.count(name) == 1 for name in DEAR)


def test_the_clock_of_a_process_jumps_as_the_file_says(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.clock.write_text("-1000000000")
    code = (
        "import time; print(round((time.clock_gettime(time.CLOCK_REALTIME) - time.time()) / 1e9))"
    )
    said = subprocess.check_output([sys.executable, "-c", code], env=world.environment)
    assert said == b"1\n"
    # the server asks grpc how much time a call has left: a jump leaves that as it is
    left = (
        "import time; from grpc._cython import cygrpc; time.time(); "
        "print(abs(time.clock_gettime(time.CLOCK_REALTIME) - cygrpc.time.time()) < 60)"
    )
    said = subprocess.check_output([sys.executable, "-c", left], env=world.environment)
    assert said == b"True\n"
    world.proxy.close()


def test_thirty_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    world = drive(tmp_path, 11, 30, FAULTS, once=DEAR)
    assert min(world.promised.values()) > 30
    assert world.jobs > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_two_thousand_faults_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    world = drive(tmp_path, seed, 250, {**FAULTS, **LONG})
    assert min(world.promised.values()) > 250
