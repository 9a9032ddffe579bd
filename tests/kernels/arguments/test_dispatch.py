"""Which kernels a tensor goes to."""

import pytest
import torch

from isogloss.errors import InvalidInput
from isogloss.kernels.arguments.dispatch import interpreting, takes_triton


def test_tensors_of_the_cpu_go_to_its_kernels_unless_they_are_interpreted() -> None:
    tensor = torch.empty(1)
    assert takes_triton(tensor) is False
    token = interpreting.set(True)
    try:
        assert takes_triton(tensor) is True
    finally:
        interpreting.reset(token)
    assert takes_triton(tensor) is False


@pytest.mark.parametrize("is_interpreting", [False, True])
def test_a_device_without_kernels_is_refused(is_interpreting: bool) -> None:
    token = interpreting.set(is_interpreting)
    try:
        with pytest.raises(InvalidInput, match="no kernel for device meta; move the tensors to"):
            takes_triton(torch.empty(1, device="meta"))
    finally:
        interpreting.reset(token)
