"""What goes wrong: each fault is begun and mended, and then everything must go on by itself."""

import contextlib
import random
import resource
import time
from collections.abc import Callable, Collection, Generator, Mapping
from pathlib import Path

import psutil
from tests.service.faults.world import PATIENCE_S, World

import isogloss
from isogloss.errors import DeadlineExceeded, NotFound, ResourceExhausted, ServerUnavailable
from isogloss.service.values.results import FeatureRef

Fault = Callable[[World, random.Random], None]

_SMALL_FILE = 4096
_SPARE_FILES = 3
_SPARE_BYTES = 24 << 20


def _kill(kind: str) -> Fault:
    def fault(world: World, chance: random.Random) -> None:
        time.sleep(chance.uniform(0, 0.1))
        found = world.process(kind)
        if found is not None:
            with contextlib.suppress(psutil.Error):
                found.kill()

    return fault


def _kill_query(world: World, chance: random.Random) -> None:
    _ask(world)
    _kill("query")(world, chance)
    _ask(world)


def _ask(world: World) -> None:
    """Ask the query process for what is not there; it is started where it does not run."""
    end = time.monotonic() + PATIENCE_S
    while not _has_answered(world):
        assert time.monotonic() < end, "the query process does not answer"
        time.sleep(0.1)


def _has_answered(world: World) -> bool:
    """Whether there is an answer now: a new client waits for no server that is away."""
    try:
        with isogloss.connect(world.unix) as client:
            client.feature(FeatureRef(dictionary="nothing", feature=0))
    except NotFound:
        return True
    except (ServerUnavailable, ResourceExhausted, DeadlineExceeded):
        return False
    raise AssertionError("it found what is not there")


def _kill_producer(world: World, chance: random.Random) -> None:
    _kill("producer")(world, chance)
    assert world.producer is not None
    world.producer.wait()
    world.start_producer()


def _kill_keeper(world: World, chance: random.Random) -> None:
    _kill("keeper")(world, chance)
    assert world.server is not None
    world.server.wait()
    assert world.server.stdout is not None
    world.server.stdout.close()
    world.start_server()


def _stop(kind: str, longest_s: float, shortest_s: float = 0.1) -> Fault:
    def fault(world: World, chance: random.Random) -> None:
        found = world.process(kind)
        if found is None:
            return
        with contextlib.suppress(psutil.Error):
            found.suspend()
            time.sleep(chance.uniform(shortest_s, longest_s))
            found.resume()

    return fault


def _while_working(fault: Fault) -> Fault:
    """Do a fault once a worker runs."""

    def done(world: World, chance: random.Random) -> None:
        end = time.monotonic() + PATIENCE_S
        while world.process("worker") is None:
            assert time.monotonic() < end, "no worker is started"
            world.keep_working()
            time.sleep(0.02)
        fault(world, chance)

    return done


def _cut(world: World, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        world.proxy.cut()
        time.sleep(chance.uniform(0, 0.2))


def _delay(world: World, chance: random.Random) -> None:
    world.proxy.delay_s = chance.uniform(0.05, 0.3)
    time.sleep(chance.uniform(0.2, 1.0))
    world.proxy.delay_s = 0.0


def _swallow(world: World, chance: random.Random) -> None:
    world.proxy.swallows = True
    time.sleep(chance.uniform(0.2, 2.5))
    if chance.random() < 0.5:
        world.proxy.cut()
    world.proxy.swallows = False


@contextlib.contextmanager
def _limited(world: World, kind: int, value: Callable[[psutil.Process], int]) -> Generator[None]:
    """Lower a limit of the server's process for the length of a block; whoever it starts then too.

    The hard limit stays, so that the server may raise its own again where it knows how to.
    """
    found = world.process("control")
    if found is None:
        yield
        return
    _, hard = resource.prlimit(found.pid, kind)
    with contextlib.suppress(psutil.Error, OSError):
        resource.prlimit(found.pid, kind, (value(found), hard))
    try:
        yield
    finally:
        with contextlib.suppress(psutil.Error, OSError):
            for one in (found, *found.children(recursive=True)):
                resource.prlimit(one.pid, kind, (hard, hard))


def _full_disk(world: World, chance: random.Random) -> None:
    """No file may grow, or be made larger than a page: what a full disk is to who writes it."""
    with _limited(world, resource.RLIMIT_FSIZE, lambda _: _SMALL_FILE):
        time.sleep(chance.uniform(0.2, 1.5))


def _few_files(world: World, chance: random.Random) -> None:
    with _limited(world, resource.RLIMIT_NOFILE, lambda found: found.num_fds() + _SPARE_FILES):
        time.sleep(chance.uniform(0.2, 1.0))


def _little_memory(world: World, chance: random.Random) -> None:
    with _limited(world, resource.RLIMIT_AS, lambda p: p.memory_info().vms + _SPARE_BYTES):
        time.sleep(chance.uniform(0.2, 1.0))


def _remove_socket(world: World, chance: random.Random) -> None:
    Path(world.unix.removeprefix("unix:")).unlink(missing_ok=True)


def _remove_files(world: World, chance: random.Random) -> None:
    """Remove what no row and no job depends on: who owns the store, proofs, logs."""
    names = ("server.json", "direct.proof", "jobs/*.log")
    for path in world.store.glob(chance.choice(names)):
        path.unlink(missing_ok=True)


def _jump(world: World, chance: random.Random) -> None:
    """Set the wall clock of all its processes by a second to three years, either way."""
    new = world.clock.with_suffix(".new")
    new.write_text(f"{chance.choice((-1, 1)) * 10 ** chance.uniform(0, 8):.3f}")
    new.replace(world.clock)


FAULTS: Mapping[str, Fault] = {
    "jump clock": _while_working(_jump),
    "kill control": _kill("control"),
    "kill query": _kill_query,
    "kill worker": _while_working(_kill("worker")),
    "kill keeper": _kill_keeper,
    "kill producer": _kill_producer,
    "stop control": _stop("control", 3.0),
    "stop worker": _while_working(_stop("worker", 1.0)),
    "stop query": _stop("query", 1.0),
    "stop producer": _stop("producer", 3.0),
    "cut connections": _cut,
    "delay": _delay,
    "swallow": _swallow,
    "full disk": _full_disk,
    "few files": _few_files,
    "little memory": _little_memory,
    "remove socket": _remove_socket,
    "remove files": _remove_files,
}
"""By name, which says what is done."""
LONG: Mapping[str, Fault] = {
    "stop worker beyond its lease": _while_working(_stop("worker", 28.0, 22.0)),
    "stop control beyond keepalive": _stop("control", 55.0, 42.0),
}
"""Faults that last longer than a test of seconds may."""
DEAR = frozenset({"kill query", "kill keeper", "kill producer", "remove socket", "little memory"})
"""Faults after which much is started again: torch is imported, or several processes."""


def deck(
    seed: int, rounds: int, faults: Mapping[str, Fault], once: Collection[str] = ()
) -> list[tuple[str, int]]:
    """Return faults for so many rounds, each with a seed.

    Args:
        seed: the same seed gives the same faults, also of fewer rounds.
        rounds: how many.
        faults: the kinds; all come before one comes again.
        once: kinds that do not come again.

    Returns:
        The names of the faults, and the seed of each.
    """
    chance = random.Random(seed)
    names = chance.sample(sorted(faults), len(faults))
    while len(names) < rounds:
        again = sorted(set(faults) - set(once))
        names += chance.sample(again, len(again))
    chance = random.Random(seed)
    return [(name, chance.randrange(1 << 32)) for name in names[:rounds]]
