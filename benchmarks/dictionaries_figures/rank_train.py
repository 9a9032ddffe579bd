"""Train dictionaries as one of several ranks that torchrun starts: rank_train.py PLAN(JSON).

Each rank prints a line of JSON: what it made, what it sent, and how it failed. Bytes are counted at
torch.distributed itself, beside what training says that it sent.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from rank_processes import run_torchrun
from torch import Tensor, distributed

from isogloss.dictionaries import Source, TrainConfig, leave_ranks, save_dictionary, train
from isogloss.errors import IsoglossError
from isogloss.store import Revision, Store

_COLLECTIVES = ("all_gather", "all_reduce", "broadcast")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the ranks train."""

    store: str
    """Root of the store, which another process owns."""
    recording: str
    """Id of the recording."""
    sites: Sequence[str]
    """Its sites."""
    directory: str
    """Of checkpoints; the dictionary of rank r is saved beside it, as ``DIRECTORY-rank-r``."""
    configs: Sequence[Mapping[str, object]]
    """The config of each rank; one for all."""
    revisions: Sequence[Mapping[str, object]] = field(default_factory=list[Mapping[str, object]])
    """The revision that each rank reads; none: the newest."""
    kill: int | None = None
    """The rank that kills itself in its first life."""
    kill_step: int = 0
    """Before which step."""
    stop: int | None = None
    """The rank that asks to stop."""
    stop_step: int = 0
    """Before which step."""
    library: str = ""
    """Version of numba that the last rank claims to have; empty: the one that it has."""

    def words(self) -> list[str]:
        """Return the plan as arguments of this script."""
        return [json.dumps(asdict(self))]


def run_ranks(plan: Plan, ranks: int, restarts: int = 0) -> tuple[list[dict[str, object]], str]:
    """Run a plan by torchrun; returns what each rank said, by life and rank, and the errors."""
    said, errors, _ = run_torchrun(
        [str(Path(__file__).resolve()), *plan.words()],
        ranks,
        restarts=restarts,
        more={"GLOO_SOCKET_IFNAME": "lo"},
    )
    return sorted(said, key=lambda one: (str(one["life"]), int(str(one["rank"])))), errors


class Counter:
    """Counts bytes of the tensors that are handed to collectives."""

    def __init__(self) -> None:
        self.bytes = 0
        for name in _COLLECTIVES:
            setattr(distributed, name, self._counted(name, getattr(distributed, name)))

    def _counted(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, group: object = None, **others: object) -> object:
            handed = cast("Tensor", args[-1] if name == "all_gather" else args[0])
            self.bytes += handed.numel() * handed.element_size()
            return real(*args, group=group, **others)

        return call


class Watch:
    """Asked before each step: notes what was sent, and stops or kills where the plan says so."""

    def __init__(self, plan: Plan, rank: int, counter: Counter) -> None:
        self._plan, self._rank, self._counter = plan, rank, counter
        self.sent: list[int] = []

    def should_stop(self) -> bool:
        """Return whether to stop."""
        self.sent.append(self._counter.bytes)
        done, plan = len(self.sent) - 1, self._plan
        is_first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if plan.kill == self._rank and done == plan.kill_step and is_first_life:
            os.kill(os.getpid(), signal.SIGKILL)
        return plan.stop == self._rank and done == plan.stop_step


def rank_main(plan: Plan) -> None:
    """Train as one of the ranks, and say what came of it."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, seen = distributed.get_rank(), list[int]()
    if plan.library and rank == distributed.get_world_size() - 1:
        _claim(plan.library)
    watch = Watch(plan, rank, Counter())
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    said: dict[str, object] = {"rank": rank, "life": life, "error": "", "sha256": ""}
    try:
        recording = Store.attach(plan.store).recording(plan.recording)
        revision = Revision.from_dict(plan.revisions[rank]) if plan.revisions else None
        reader = recording.reader(revision)
        made = train(
            TrainConfig.from_dict(plan.configs[rank % len(plan.configs)]),
            [Source(reader=reader, site=site) for site in plan.sites],
            Path(plan.directory),
            on_progress=lambda progress: seen.append(progress.step),
            should_stop=watch.should_stop,
        )
        save_dictionary(made, Path(f"{plan.directory}-rank-{rank}"))
        said["sha256"] = made.provenance.weights_sha256
    except IsoglossError as error:
        said["error"] = f"{type(error).__name__}: {error}"
    said |= {"first": min(seen, default=0), "sent": watch.sent}
    os.write(sys.stdout.fileno(), f"{json.dumps(said)}\n".encode())  # at once: ranks share it
    if str(said["error"]).startswith("RankLost"):
        sys.exit(1)  # torchrun starts all ranks again
    leave_ranks()


def _claim(version: str) -> None:
    """Let this process claim another version of numba."""
    from isogloss.dictionaries.training import identity

    real = identity._libraries
    identity._libraries = lambda: {**real(), "numba": version}


if __name__ == "__main__":
    rank_main(Plan(**json.loads(sys.argv[1])))
