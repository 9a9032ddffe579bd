"""The sections of the device's lane: what each runs, and how long it may take."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from device_figures import correct, times
from device_figures.correct import DTYPES
from device_figures.records import Scene


class Section(NamedTuple):
    """A part that runs in a process of its own."""

    run: Callable[[Scene], None]
    """What it does."""
    cap_s: float
    """Seconds after which it is ended."""
    is_timed: bool = False
    """Whether it wants the device for itself."""


def _of(function: Callable[..., None], *arguments: object) -> Callable[[Scene], None]:
    return lambda scene: function(scene, *arguments)


SECTIONS: dict[str, Section] = {
    **{f"exact-{name}": Section(_of(correct.exactness, name), 110) for name in DTYPES},
    **{f"real-{name}": Section(_of(correct.real_shapes, name), 110) for name in ("bf16", "fp32")},
    "pairs": Section(correct.pairs, 80),
    "composed": Section(correct.composed, 80),
    "time-rates": Section(times.rates, 15, True),
    "time-encode-bf16": Section(_of(times.encode, "bf16", torch.bfloat16), 30, True),
    "time-encode-fp32": Section(_of(times.encode, "fp32", torch.float32), 30, True),
    "time-training": Section(times.training, 25, True),
    "time-decoders-bf16": Section(_of(times.decoders, "bf16", torch.bfloat16), 25, True),
    "time-decoders-fp32": Section(_of(times.decoders, "fp32", torch.float32), 25, True),
    "time-choices-bf16": Section(_of(times.choices, "bf16", torch.bfloat16), 25, True),
    "time-large": Section(times.large, 30, True),
    "time-compiled": Section(times.compiled, 45, True),
}
"""In the order in which they run: those that are not timed side by side, then one after another."""


def run_section(name: str, device: str, directory: Path, *, is_warming: bool = False) -> None:
    """Run one section in this process, and write its records to ``directory/NAME.jsonl``."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    with (directory / f"{name}{'.warm' if is_warming else ''}.jsonl").open("w") as file:
        scene = Scene(section=name, device=torch.device(device), file=file, is_warming=is_warming)
        if scene.device.type == "cuda":
            scene.note("machine", **machine())
        SECTIONS[name].run(scene)


def machine() -> dict[str, object]:
    """What the device and the versions are."""
    import triton

    found = torch.cuda.get_device_properties(0)
    return {
        "device": found.name,
        "processors": found.multi_processor_count,
        "memory": found.total_memory,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
