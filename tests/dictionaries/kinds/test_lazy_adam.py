"""Every kind can be trained by lazy Adam, which leaves what a batch says nothing about."""

import pytest
import torch

from isogloss.dictionaries import StepBatch, WiredColumns, kind_names
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.errors import InvalidInput
from isogloss.kernels import Workspace

WIDTH, FEATURES = 16, 400


@pytest.mark.parametrize("name", sorted(kind_names()))
def test_features_without_a_term_stay_where_exact_adam_moves_them(name: str) -> None:
    rows = torch.randn(6, 8, WIDTH, generator=torch.Generator().manual_seed(0))
    moved: dict[str, int] = {}
    for adam in ("exact", "lazy"):
        kind = make_kind(name, {"features": FEATURES, "adam": adam})
        columns = WiredColumns(reads=range(WIDTH), writes=range(WIDTH))
        start = initial_weights(features=FEATURES, seed=0, connection=columns, mean=rows[0].mean(0))
        tensors = kind.start(start)
        before = tensors["weights.encoder"]
        for step, batch in enumerate(rows, 1):
            before = tensors["weights.encoder"].clone()
            kind.step(
                tensors,
                StepBatch(
                    rows=batch,
                    target=batch,
                    step=step,
                    total_steps=100,
                    learning_rate=1e-2,
                    variance=float(WIDTH),
                    dead=None,
                    workspace=Workspace(),
                ),
            )
        moved[adam] = int((tensors["weights.encoder"] != before).any(1).sum())
    assert 0 < moved["lazy"] < moved["exact"]


def test_another_adam_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match=r"adam is 'sparse'; wanted one of \['exact', 'lazy'\]"):
        make_kind("topk", {"features": 64, "adam": "sparse"})
