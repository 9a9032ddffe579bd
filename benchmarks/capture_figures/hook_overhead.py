"""What a recorder costs a training step, beside hooks that only clone.

``PYTHONPATH=benchmarks:src python -m capture_figures.hook_overhead [ROUNDS]``
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from house_figures.figure import Figure
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss
from isogloss.service.recording.live.recorder import Recorder
from isogloss.service.recording.options import RecorderOptions

SITES = ("transformer.h.2", "transformer.h.6", "transformer.h.10")
_SEQUENCES, _TOKENS = 4, 64


@dataclass(frozen=True, slots=True)
class Spent:
    """What a step took, in seconds."""

    wall: float
    loop: float
    """CPU of the thread that runs the model."""
    process: float
    """CPU of all threads, the recorder's and the store's among them."""


def small_gpt2() -> nn.Module:
    """Return a model of GPT-2's smallest size, 124 million parameters, with random weights."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(use_cache=False)).train()


def clones(model: nn.Module) -> list[Callable[[], None]]:
    """Set hooks at the sites that clone what they see, and return what removes them."""
    seen: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(module: nn.Module, args: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor):
                seen[name] = first.detach().clone()

        return keep

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in SITES]
    return [handle.remove for handle in handles]


def hook_overhead(rounds: int = 9) -> Figure:
    """Measure [hook_overhead]: (step with a recorder - step with clones) / step, medians.

    One torch thread; a step is forward and backward. Rounds of the two are interleaved, and which
    is first changes. The queue is not full. Beside wall clock stands what was spent of CPU, which
    a busy machine changes less.

    Args:
        rounds: rounds of each.
    """
    torch.set_num_threads(1)
    model = small_gpt2()
    chance = torch.Generator().manual_seed(1)
    vocabulary = 50_000

    def step() -> Spent:
        ids = torch.randint(0, vocabulary, (_SEQUENCES, _TOKENS), generator=chance)
        start = time.perf_counter(), time.thread_time(), time.process_time()
        model(input_ids=ids, labels=ids).loss.backward()
        end = time.perf_counter(), time.thread_time(), time.process_time()
        return Spent(*(after - before for before, after in zip(start, end, strict=True)))

    def recorded(recorder: Recorder) -> Spent:
        with recorder:
            return step()

    def cloned() -> Spent:
        removers = clones(model)
        try:
            return step()
        finally:
            for remove in removers:
                remove()

    with (
        tempfile.TemporaryDirectory() as folder,
        isogloss.connect(f"{folder}/store", run_workers=False) as client,
    ):
        step()
        with_recorder: list[Spent] = []
        plain: list[Spent] = []
        for number in range(rounds):
            recorder = client.record(
                model,
                sites=SITES,
                recording="overhead",
                step=number,
                layout="batch_first",
                options=RecorderOptions(batch_rows=1),
            )
            if number % 2:
                second, first = cloned(), recorded(recorder)
            else:
                first, second = recorded(recorder), cloned()
            with_recorder.append(first)
            plain.append(second)
    walls = [(one.wall - other.wall) for one, other in zip(with_recorder, plain, strict=True)]
    step_s = statistics.median(one.wall for one in plain)
    return Figure(
        figure="hook_overhead",
        value=statistics.median(walls) / step_s,
        bar=0.03,
        unit="of a step",
        peers={
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "step in s": step_s,
            "smallest and largest difference in s": [min(walls), max(walls)],
            "of the CPU of the loop's thread": _share(
                [one.loop for one in with_recorder], [one.loop for one in plain]
            ),
            "of the CPU of the process": _share(
                [one.process for one in with_recorder], [one.process for one in plain]
            ),
            "load of the machine, and its cores": [os.getloadavg()[0], os.cpu_count()],
        },
        runs=rounds,
    )


def _share(with_recorder: list[float], plain: list[float]) -> float:
    pairs = zip(with_recorder, plain, strict=True)
    return statistics.median(one - other for one, other in pairs) / statistics.median(plain)


if __name__ == "__main__":
    print(hook_overhead(*(int(word) for word in sys.argv[1:])).to_dict())
