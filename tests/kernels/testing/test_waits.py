"""What forbids to capture a call is counted; the operations that can be captured stay so."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

from kernels_figures.captured import reasons  # noqa: E402 (after the check above)

from isogloss.kernels.testing.interpreter import interpreter  # noqa: E402
from isogloss.kernels.testing.waits import waiting  # noqa: E402

WAITS = {
    "encode_threshold": 1,  # the number of all entries
    "encode_batch_topk": 2,  # that, and the tiles that hide entries
    "train_step_topk": 1,  # the loss, a number of the host
}


def test_all_operations_but_the_named_can_be_captured() -> None:
    found = {name: sum(counts.values()) for name, counts in reasons().items()}
    assert found.pop("coactivation") > 0  # ragged codes are sorted, and repeats refused
    assert {name: count for name, count in found.items() if count} == WAITS
    assert len(found) == 13


def test_every_kind_of_wait_is_seen_and_what_is_none_is_not() -> None:
    tensor = torch.arange(6.0)
    with interpreter(), waiting() as found:
        tensor.sum()
        tensor.sort()
        torch.repeat_interleave(tensor, torch.ones(6, dtype=torch.int64), output_size=6)
    assert not found
    waits: list[Callable[[], object]] = [
        lambda: float(tensor[0]),
        lambda: str(tensor.tolist()),  # pyright: ignore[reportUnknownMemberType] (as torch has it)
        tensor.nonzero,
        lambda: tensor[tensor > 2],
        lambda: torch.tensor([1, 2]),
        partial(torch.unique, tensor),
        lambda: torch.repeat_interleave(tensor, torch.ones(6, dtype=torch.int64)),
    ]
    for wait in waits:
        with interpreter(), waiting() as found:
            wait()
        assert sum(found.values()) >= 1
