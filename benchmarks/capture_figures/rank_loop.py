"""A training loop that torchrun starts, whose ranks record: rank_loop.py OPTIONS(JSON).

Every number in the model is a small multiple of a power of two, and a step moves each weight by one
such multiple in the direction of its gradient's sign. So all sums are exact in float32, in any
order, and the rows of several ranks are those of one process to the last bit.

One rank may kill itself, at a moment drawn at random; torchrun then starts all ranks again.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import isogloss
from isogloss.dictionaries import leave_ranks
from isogloss.service.recording.live.recorder import Recorder
from isogloss.service.recording.options import RecorderOptions

WRAPPERS = ("ddp", "fsdp", "tensor", "checkpoint", "reentrant", "micro")
SITES = ("blocks.0", "blocks.1")
_UNIT = 2.0**-3
_TOKENS, _WIDTH = 40, 8
_SEQUENCES = 4
_EPOCH_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the ranks do."""

    address: str
    """Of the store's owner; the token is in the environment."""
    recording: str
    """Id of the recording."""
    wrapper: str
    """One of ``WRAPPERS``; ``one``: a single process."""
    direct: bool = False
    """Whether ranks write to the storage."""
    steps: int = 6
    """Training steps."""
    ranks: int = 4
    """Ranks whose batches make up a step."""
    kill: int | None = None
    """The rank that kills itself in its first life."""
    kill_step: int = 0
    """In which step."""
    kill_after_s: float = 0.0
    """How long after that step began."""
    saved: str = ""
    """Where weights are saved each two steps, to go on from; empty: a new life begins at step 0."""

    def words(self) -> list[str]:
        """Return the plan as arguments of this script."""
        return [json.dumps(asdict(self))]


class Block(nn.Module):
    """Two matrices around a ramp, added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(_WIDTH, 2 * _WIDTH, bias=False)
        self.down = nn.Linear(2 * _WIDTH, _WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes in, and what the block adds."""
        return x + self.down(torch.relu(self.up(x)))


class Exact(nn.Module):
    """An embedding and two blocks, whose weights are small multiples of 1/8."""

    def __init__(self, recompute: str = "") -> None:
        super().__init__()
        self.embedding = nn.Embedding(_TOKENS, _WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.recompute = recompute
        chance = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randint(-4, 5, weight.shape, generator=chance) * _UNIT)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``[sequences, tokens, width]``, zero at padding."""
        x = self.embedding(input_ids)
        for block in self.blocks:
            if self.recompute:
                x = cast(
                    "Tensor", checkpoint(block, x, use_reentrant=self.recompute == "reentrant")
                )
            else:
                x = block(x)
        return x * attention_mask[..., None]


def texts(step: int, rank: int) -> list[list[int]]:
    """Return the texts that a rank reads in a step: the same ones each epoch."""
    chance = np.random.default_rng([step % _EPOCH_STEPS, rank])
    return [chance.integers(0, _TOKENS, chance.integers(3, 9)).tolist() for _ in range(_SEQUENCES)]


def padded(some: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return texts as a model reads them together."""
    longest = max(map(len, some))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in some])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in some])
    return {"input_ids": ids, "attention_mask": mask}


def loss_of(output: Tensor) -> Tensor:
    """Return a sum with signs, whose gradients are exact."""
    signs = 1.0 - 2.0 * (torch.arange(output.shape[-1]) % 2)
    return (output * signs).sum()


def wrapped(plan: Plan) -> tuple[nn.Module, int]:
    """Return the model as a rank holds it, and the step to go on with."""
    model = Exact(plan.wrapper if plan.wrapper in ("checkpoint", "reentrant") else "")
    first = 0
    if plan.saved and Path(plan.saved).exists():
        found = torch.load(plan.saved, weights_only=True)
        model.load_state_dict(found["state"])
        first = cast("int", found["step"])
    if plan.wrapper == "one":
        return model, first
    if plan.wrapper in ("fsdp", "tensor"):
        return _sharded(model, plan), first
    return DistributedDataParallel(model), first


def _sharded(model: Exact, plan: Plan) -> nn.Module:
    # these take as long to import as torch, and most ranks need none of them
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        ParallelStyle,
        RowwiseParallel,
        parallelize_module,
    )

    mesh = init_device_mesh("cpu", (plan.ranks,))
    if plan.wrapper == "fsdp":
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)  # in place
        return model
    parts: dict[str, ParallelStyle] = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    named = {f"blocks.{i}.{name}": part for i in range(2) for name, part in parts.items()}
    return parallelize_module(model, mesh, named)


def train(plan: Plan, model: nn.Module, recorder: Recorder, first: int) -> None:
    """Train from a step on."""
    for step in range(first, plan.steps):
        recorder.step = step
        if _is_first_life() and plan.kill == _rank() and step == plan.kill_step:
            kill_soon(plan.kill_after_s)
        batches = [texts(step, rank) for rank in _ranks_of(plan)]
        if plan.wrapper == "micro":
            batches = [batches[0][:1], batches[0][1:]]
        for number, batch in enumerate(batches):
            is_last = number == len(batches) - 1
            with _unsynchronised(model, is_last=is_last):
                loss_of(model(**padded(batch))).backward()
        move(model, step)
        if plan.saved and step % 2:
            recorder.flush()  # what is behind the saved step is never shown again
            save(plan, model, step + 1)
    if _is_first_life() and plan.kill == _rank():
        threading.Event().wait()  # for the kill


def move(model: nn.Module, step: int) -> None:
    """Move each weight by 1/8 along its gradient's sign, down and up in turn: they stay small."""
    unit = -_UNIT if step % 2 else _UNIT
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                local, grad = (
                    getattr(t, "to_local", lambda t=t: t)() for t in (weight, weight.grad)
                )
                local -= unit * grad.sign()
            weight.grad = None


def kill_soon(seconds: float) -> None:
    """Let a thread kill this process after a time."""

    def kill() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


def save(plan: Plan, model: nn.Module, step: int) -> None:
    """Save the weights with which a step begins, whole or not at all."""
    whole = {
        name.removeprefix("module."): getattr(weight, "full_tensor", weight.detach)()
        for name, weight in model.state_dict().items()
    }
    distributed.barrier()  # every rank's rows are durable
    if _rank() == 0:
        scratch = Path(f"{plan.saved}.new")
        torch.save({"step": step, "state": whole}, scratch)
        scratch.replace(plan.saved)
    distributed.barrier()


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _is_first_life() -> bool:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"


def _ranks_of(plan: Plan) -> Sequence[int]:
    """Return the ranks whose batches this process reads."""
    return range(plan.ranks) if plan.wrapper in ("one", "tensor") else [_rank()]


def _unsynchronised(model: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
    if is_last or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return model.no_sync()


def record(plan: Plan, client: isogloss.Client) -> dict[str, object]:
    """Train and record; return what the rank says when it ends."""
    model, first = wrapped(plan)
    recorder = client.record(
        model,
        sites=SITES,
        recording=plan.recording,
        dtype="float32",
        name="exact",
        step=first,
        ranks="one" if plan.wrapper == "tensor" else "all",
        direct=plan.direct,
        options=RecorderOptions(batch_rows=16, strict=True),
    )
    with recorder:
        train(plan, model, recorder, first)
    return {
        "rank": _rank(),
        "life": os.environ.get("TORCHELASTIC_RESTART_COUNT"),
        "first": first,
        "rows": recorder.counts.durable_rows,
    }


def main(plan: Plan) -> None:
    """Join the other ranks, and train and record with them."""
    torch.set_num_threads(1)
    is_alone = plan.wrapper == "one"
    if not is_alone:
        distributed.init_process_group("gloo")
    with isogloss.connect(plan.address) as client:
        line = f"{json.dumps(record(plan, client))}\n"
        os.write(sys.stdout.fileno(), line.encode())  # at once: ranks share the output
    if not is_alone:
        leave_ranks()
        os._exit(0)  # what holds DDP's group may outlive that


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
