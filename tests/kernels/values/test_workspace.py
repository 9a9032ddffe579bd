"""Scratch memory that only grows."""

import torch

from isogloss.kernels.values.workspace import Workspace


def test_a_buffer_is_used_again_while_it_is_large_enough() -> None:
    workspace = Workspace()
    first = workspace.take("a", (3, 4))
    assert (first.shape, first.dtype, first.device.type) == ((3, 4), torch.float32, "cpu")
    assert first.is_contiguous()
    assert workspace.nbytes == 48
    for shape in ((2, 3), (12,), (4, 3)):
        again = workspace.take("a", shape)
        assert again.shape == shape
        assert again.data_ptr() == first.data_ptr()
    assert workspace.nbytes == 48
    assert workspace.take("a", (13,)).shape == (13,)
    assert workspace.nbytes == 52
    assert workspace.take("a", (0, 5)).shape == (0, 5)


def test_names_and_dtypes_have_buffers_of_their_own() -> None:
    workspace = Workspace()
    assert workspace.nbytes == 0
    places = {
        workspace.take("a", (4,)).data_ptr(),
        workspace.take("b", (4,)).data_ptr(),
        workspace.take("a", (4,), torch.int64).data_ptr(),
    }
    assert len(places) == 3
    assert workspace.nbytes == 16 + 16 + 32
    assert workspace.take("a", (1,), device=torch.device("meta")).device.type == "meta"
