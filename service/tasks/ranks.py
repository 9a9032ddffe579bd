"""Several processes of one machine that train together: a worker and the ranks that it starts.

The worker is rank 0 and the only one that writes. It starts the others as children in its own
process group, so that they end with it, and they meet by a file of its own; what they say to one
another stays on the loopback interface.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, distributed

from isogloss.dictionaries import (
    Source,
    TrainConfig,
    leave_ranks,
    load_dictionary,
    train_together,
)
from isogloss.errors import IsoglossError, RankLost
from isogloss.service.jobs.processes import SUPERVISOR_VARIABLE
from isogloss.service.values.machine import processors
from isogloss.service.values.state_directory import location, make_state_directory
from isogloss.store import Revision, Store

_MODULE = "isogloss.service.processes.rank"
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_END_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedTraining:
    """What all ranks of a training do."""

    sources: Sequence[Source]
    """The sites, pinned."""
    runs: Mapping[Path, TrainConfig]
    """Config of each run by its directory."""
    starts: Sequence[Path | None]
    """For each run the directory of the dictionary whose decoder it starts from; None: none."""
    known: Mapping[Path, Tensor] = field(default_factory=dict[Path, Tensor])
    """Decoders of such directories that this process has read already."""

    def given(self) -> list[Tensor | None]:
        """Return the decoder that each run starts from."""
        loaded = {
            place: self.known[place] if place in self.known else load_dictionary(place).decoder
            for place in {*self.starts}
            if place is not None
        }
        return [None if place is None else loaded[place] for place in self.starts]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON, which another process of this machine reads."""
        return {
            "sources": [
                {
                    "recording": source.reader.spec.recording,
                    "revision": source.reader.revision.to_dict(),
                    "site": source.site,
                }
                for source in self.sources
            ],
            "runs": {str(place): config.to_dict() for place, config in self.runs.items()},
            "starts": [None if place is None else str(place) for place in self.starts],
        }

    @classmethod
    def read(cls, store: Store, values: Mapping[str, object]) -> "SharedTraining":
        """Read what :meth:`to_dict` wrote.

        Args:
            store: has the recordings.
            values: of the JSON.
        """
        named = cast("list[Mapping[str, object]]", values["sources"])
        runs = cast("Mapping[str, Mapping[str, object]]", values["runs"])
        starts = cast("list[str | None]", values["starts"])
        readers = {
            str(one["recording"]): store.recording(str(one["recording"])).reader(
                Revision.from_dict(cast("Mapping[str, object]", one["revision"]))
            )
            for one in named
        }
        return cls(
            sources=[
                Source(reader=readers[str(one["recording"])], site=str(one["site"]))
                for one in named
            ],
            runs={Path(place): TrainConfig.from_dict(config) for place, config in runs.items()},
            starts=[None if place is None else Path(place) for place in starts],
        )


@contextmanager
def started_ranks(
    store: Store, training: SharedTraining, processes: int
) -> Generator[None, None, None]:
    """Start the other ranks of a training for the length of a block, and join them.

    Within the block :func:`isogloss.dictionaries.train_together` finds them. Each has its part of
    the machine's processors.

    Args:
        store: open in this process.
        training: what they do.
        processes: how many train, this one included; of one alone nothing is started.

    Yields:
        Nothing.

    Raises:
        RankLost: a rank does not come, or has ended.
    """
    if processes == 1:
        yield
        return
    place = Path(tempfile.mkdtemp(prefix="ranks-", dir=make_state_directory(store)))
    children: list[subprocess.Popen[bytes]] = []
    threads = max(1, processors() // processes)
    os.environ["GLOO_SOCKET_IFNAME"] = _LOOPBACK
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        (place / "training.json").write_text(json.dumps(training.to_dict()))
        for rank in range(1, processes):
            words = [location(store), str(place), str(rank), str(processes)]
            children.append(
                subprocess.Popen(
                    [sys.executable, "-m", _MODULE, *words],
                    stdin=subprocess.DEVNULL,
                    env={
                        **os.environ,
                        SUPERVISOR_VARIABLE: str(os.getpid()),
                        "OMP_NUM_THREADS": str(threads),
                    },
                )
            )
        _meet(place, 0, processes)
        yield
        leave_ranks()
        for child in children:
            child.wait(_END_S)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        torch.set_num_threads(before)
        with suppress(RuntimeError):  # it has left already, or another rank is gone
            if distributed.is_initialized():
                distributed.destroy_process_group()
        shutil.rmtree(place, ignore_errors=True)


def train_as_rank(address: str, place: Path, rank: int, processes: int) -> int:
    """Train as one of the ranks that a worker started; returns the exit code.

    Errors of this rank reach the worker, which says so; here they are logged.

    Args:
        address: of the store.
        place: directory in which the ranks meet.
        rank: number of this one.
        processes: how many there are.
    """
    with Store.attach(address) as store:
        training = SharedTraining.read(store, json.loads((place / "training.json").read_text()))
        try:
            _meet(place, rank, processes)
            train_together(
                [*training.runs.values()],
                training.sources,
                [*training.runs],
                given=training.given(),
            )
        except IsoglossError as error:
            _log.warning("rank %d ended: %s", rank, error)
            return 1
        leave_ranks()
    return 0


def _meet(place: Path, rank: int, processes: int) -> None:
    """Join the other ranks.

    Raises:
        RankLost: one does not come.
    """
    try:
        distributed.init_process_group(
            "gloo", init_method=f"file://{place / 'meeting'}", rank=rank, world_size=processes
        )
    except RuntimeError as error:
        raise RankLost(f"rank {rank} of {processes} did not meet the others: {error}") from error
