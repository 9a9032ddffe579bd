"""Processes that train together, by torch.distributed, and what they tell one another.

Every rank calls the same in the same order. What each says is small: rows that it read, codes of
the rows that it encoded, and at the start and where something fails a few texts.
"""

import gc
import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

from isogloss.dictionaries.training.checkpoints import Checkpoint
from isogloss.errors import Conflict, IsoglossError, RankLost, from_reason
from isogloss.kernels import RowShare

TrainingRanks: TypeAlias = Literal["all", "one"] | ProcessGroup
"""Which processes train together: all of the process group that was initialised, where there is
one (torchrun); this one alone; or those of a group."""

T = TypeVar("T")
_ROOMS = ("dictionaries", "kernels")


def ranks_of(ranks: TrainingRanks) -> "RankGroup":
    """Return the processes that a caller names."""
    if isinstance(ranks, ProcessGroup):
        return RankGroup(ranks)
    is_one = not (distributed.is_available() and distributed.is_initialized())
    return RankGroup(None if ranks == "one" or is_one else distributed.group.WORLD)


def leave_ranks() -> None:
    """Leave the process group that was initialised, when all of its ranks have come to this.

    DDP and others keep a group alive in a circle of references; gloo's threads must not meet an
    interpreter that is gone: they abort the process after its work (pytorch issue 190489).
    """
    with suppress(RuntimeError):  # another rank was killed when its work was done
        distributed.barrier()
    gc.collect()
    distributed.destroy_process_group()


class RankGroup:
    """The ranks that train together; of one rank alone nothing is sent."""

    def __init__(self, group: ProcessGroup | None) -> None:
        self._group = group
        self._rank = 0 if group is None else distributed.get_rank(group)
        self._world = 1 if group is None else distributed.get_world_size(group)
        self.sent_bytes = 0
        """Bytes of the tensors that this rank has handed to collectives."""

    @property
    def rank(self) -> int:
        """Number of this rank in the group."""
        return self._rank

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return self._world

    @property
    def is_first(self) -> bool:
        """Whether this rank reads and writes checkpoints."""
        return self._rank == 0

    @property
    def share(self) -> RowShare | None:
        """What a step needs to know of the others; None where there are none."""
        return self if self._world > 1 else None

    def together(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the tensors of all ranks, one behind the other; see ``RowShare``.

        Raises:
            RankLost: another rank ended.
        """
        longest = max(sizes)
        if self._world == 1 or longest == 0:
            return own
        padded = self._here(own.new_zeros(longest, *own.shape[1:]))
        padded[: len(own)] = own
        every = padded.new_empty(self._world, *padded.shape)
        with self._reaching(padded):
            distributed.all_gather(list(every.unbind(0)), padded, group=self._group)
        parts = [part[:size] for part, size in zip(every, sizes, strict=True)]
        return torch.cat(parts).to(own.device)

    def total(self, own: Tensor) -> Tensor:
        """Return the sum of an int64 tensor over the ranks.

        Raises:
            RankLost: another rank ended.
        """
        if self._world == 1:
            return own
        summed = self._here(own.clone())
        with self._reaching(summed):
            distributed.all_reduce(summed, group=self._group)
        return summed.to(own.device)

    def any(self, *, own: bool) -> bool:
        """Return whether it is so on any rank."""
        return own if self._world == 1 else bool(self.total(torch.tensor([int(own)])) > 0)

    def texts(self, own: str) -> list[str]:
        """Return a text of each rank."""
        if self._world == 1:
            return [own]
        coded = torch.tensor(list(own.encode()), dtype=torch.uint8)
        sizes = self.together(torch.tensor([len(coded)]), [1] * self._world).tolist()
        found = self.together(coded, sizes)
        if max(sizes) == 0:
            return [""] * self._world
        return [bytes(part.tolist()).decode() for part in found.split(sizes)]

    def agree(self, make: Callable[[], T]) -> T:
        """Do something that may fail on one rank only; where it does, all raise.

        That rank raises its own error, the others one of the same class, or RankLost where it is
        none of ours.
        """
        if self._world == 1:
            return make()
        made: list[T] = []
        failed: Exception | None = None
        try:
            made.append(make())
        except RankLost:
            raise
        except Exception as error:  # whatever it is, the others wait to hear of it
            failed = error
        for rank, text in enumerate(self.texts(_said(failed))):
            if text and failed is None:
                reason, _, message = text.partition("\n")
                raise from_reason(reason)(f"rank {rank}: {message}")
        if failed is not None:
            raise failed
        return made[0]

    def require_same(self, mine: Mapping[str, object]) -> None:
        """Raise Conflict, on all ranks, where one has other values than the first.

        Raises:
            Conflict: it names what differs first, and both values.
        """
        if self._world == 1:
            return
        every = [_flat(json.loads(text)) for text in self.texts(json.dumps(mine))]
        for rank, other in enumerate(every):
            for name in sorted({*every[0], *other}):
                if every[0].get(name) != other.get(name):
                    raise Conflict(
                        f"rank {rank} has {name} {other.get(name)!r}, rank 0 has "
                        f"{every[0].get(name)!r}: start all ranks with the same release, config "
                        "and revision of the recording"
                    )

    def hand_out(self, checkpoint: Checkpoint | None) -> Checkpoint:
        """Return on every rank the checkpoint that the first one gives.

        Raises:
            RankLost: another rank ended.
        """
        if self._world == 1 and checkpoint is not None:
            return checkpoint
        head = ""
        if checkpoint is not None:
            shapes = {
                name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
                for name, tensor in checkpoint.tensors.items()
            }
            head = json.dumps([checkpoint.step, dict(checkpoint.state), shapes])
        step, state, told = json.loads(self.texts(head)[0])
        tensors: dict[str, Tensor] = {}
        for name, (dtype, shape) in told.items():
            held = torch.empty(shape, dtype=cast("torch.dtype", getattr(torch, dtype)))
            if checkpoint is not None:
                held = checkpoint.tensors[name].cpu().contiguous().clone()
            here = self._here(held)
            with self._reaching(here):
                distributed.broadcast(here, group=self._group, group_src=0)
            tensors[name] = here.cpu()
        return Checkpoint(step=step, state=state, tensors=tensors)

    def require_equal(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise Conflict, on all ranks, where one holds other weights than the first.

        Each rank updates all of the weights, by the same sums in the same order: only processors
        that compute differently can make them differ.

        Raises:
            Conflict: it names the rank and the tensors.
        """
        if self._world > 1:
            self.require_same({name: _digest(tensor) for name, tensor in tensors.items()})

    def _here(self, tensor: Tensor) -> Tensor:
        """Return a tensor on a device that the group's backend takes."""
        takes = distributed.get_backend_config(self._group)
        if f"{tensor.device.type}:" in takes:
            return tensor
        return tensor.cpu() if "cpu:" in takes else tensor.cuda()

    @contextmanager
    def _reaching(self, sent: Tensor) -> Generator[None, None, None]:
        try:
            yield
        except RuntimeError as error:
            raise RankLost(
                f"rank {self._rank} of {self._world} no longer reaches the others ({error}): start "
                "all ranks again, and training goes on from the last checkpoint"
            ) from error
        self.sent_bytes += sent.numel() * sent.element_size()


@cache
def code_hash() -> str:
    """Return the sha256 of the code that training runs: two checkouts may share a version."""
    room = Path(__file__).resolve().parent.parent
    found = hashlib.sha256()
    for name in _ROOMS:
        for path in sorted((room.parent / name).rglob("*.py")):
            found.update(f"{path.relative_to(room.parent)}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()


def _said(error: Exception | None) -> str:
    """Return the reason and the text of an error; empty for none."""
    if error is None:
        return ""
    if isinstance(error, IsoglossError):
        return f"{error.reason}\n{error}"
    return f"{RankLost.reason}\nended with {type(error).__name__}: {error}"


def _flat(values: object, name: str = "") -> dict[str, object]:
    """Return nested values by their path."""
    if not isinstance(values, Mapping):
        return {name: values}
    found: dict[str, object] = {}
    for key, value in cast("Mapping[str, object]", values).items():
        found |= _flat(value, f"{name}.{key}" if name else key)
    return found
