"""Adam on one parameter: against torch's own in float64, bits over threads, bad input."""

import os
import subprocess
import sys

import pytest
import torch

from isogloss.errors import InvalidInput, IsoglossError, ShapeError
from isogloss.kernels import adam_step


def test_ten_steps_are_those_of_torch_in_float64() -> None:
    torch.manual_seed(0)
    parameter = torch.randn(37, 19)
    exact = parameter.double().requires_grad_()
    optimiser = torch.optim.Adam([exact], lr=1e-2)
    first, second = torch.zeros_like(parameter), torch.zeros_like(parameter)
    for step in range(1, 11):
        gradient = torch.randn(37, 19)
        exact.grad = gradient.double()
        optimiser.step()
        adam_step(parameter, gradient, first, second, step=step, learning_rate=1e-2)
    torch.testing.assert_close(parameter, exact.detach().float(), rtol=1e-5, atol=1e-6)


_BITS = """
import hashlib, sys
import torch
from isogloss.kernels import adam_step

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
parameter, first, second = torch.randn(3, 70_001), torch.zeros(3, 70_001), torch.zeros(3, 70_001)
for step in range(1, 4):
    adam_step(parameter, torch.randn(3, 70_001), first, second, step=step, learning_rate=1e-2)
print(hashlib.sha256(parameter.numpy().tobytes() + second.numpy().tobytes()).hexdigest())
"""


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", _BITS, threads],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "4"},
        ).stdout
        for threads in ("1", "2", "4")
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"step": 0}, InvalidInput, "step is 0"),
        ({"gradient": torch.zeros(3)}, ShapeError, "gradient is .*3"),
        ({"first": torch.zeros(4, dtype=torch.float64)}, ShapeError, "first is torch.float64"),
        ({"second": torch.zeros(8)[::2]}, ShapeError, "second"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, object], error: type[IsoglossError], message: str
) -> None:
    given = {"gradient": torch.zeros(4), "first": torch.zeros(4), "second": torch.zeros(4)}
    given |= {"step": 1, "learning_rate": 1e-3} | changes
    with pytest.raises(error, match=message):
        adam_step(torch.zeros(4), **given)  # pyright: ignore[reportArgumentType] (wrong on purpose)
