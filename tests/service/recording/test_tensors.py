"""Rows of a model become rows of a store."""

import numpy as np
import pytest
import torch

from isogloss.errors import ShapeError
from isogloss.service.recording.tensors import to_numpy
from isogloss.store import SiteSpec
from isogloss.store.schema.recording_spec import Dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_keep_their_values_in_the_dtype_of_their_site(dtype: Dtype) -> None:
    site = SiteSpec(name="s", width=3, dtype=dtype)
    values = torch.tensor([[0.5, -2.0, 3.0], [1.0, 0.25, -8.0]], requires_grad=True)
    found = to_numpy(values, site)
    assert found.dtype == site.numpy_dtype
    assert found.astype(np.float32).tolist() == values.tolist()
    assert to_numpy(values.detach().T.contiguous().T, site).tobytes() == found.tobytes()


def test_rows_that_fit_are_not_copied() -> None:
    kinds: dict[Dtype, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    for dtype, kind in kinds.items():
        rows = torch.zeros(2, 3, dtype=kind)
        found = to_numpy(rows, SiteSpec(name="s", width=3, dtype=dtype))
        rows[1, 2] = 1.0
        assert float(found[1, 2]) == 1.0


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 2, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"site 's' gave .*, wanted \[rows, 3\]") as caught:
        to_numpy(torch.zeros(shape), SiteSpec(name="s", width=3))
    assert str(list(shape)) in str(caught.value)
