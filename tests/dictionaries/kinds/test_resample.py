from dataclasses import replace

import torch
from tests.dictionaries.kinds.dense import FEATURES, WIDTH, batch_of, rows_of, started

from isogloss.dictionaries.kinds.relu_l1 import ReluL1
from isogloss.dictionaries.kinds.resample import resample


def _state() -> dict[str, torch.Tensor]:
    tensors = started(ReluL1(features=FEATURES, l1=0.25))
    for name, tensor in tensors.items():
        if not name.startswith("weights."):
            tensor.fill_(1.0)
    return tensors


def _resample(
    tensors: dict[str, torch.Tensor],
    dead: torch.Tensor,
    rows: torch.Tensor,
    errors: torch.Tensor,
    step: int,
    columns: torch.Tensor | None = None,
) -> int:
    """Resample where the rows are already centred, as in an autoencoder."""
    target = rows + tensors["weights.decoder_bias"]
    batch = replace(batch_of(target, dead=dead, step=step, of=9), columns=columns)
    return resample(tensors, batch, batch.target - tensors["weights.decoder_bias"], errors)


def test_dead_features_take_the_directions_of_rows_with_large_errors():
    tensors, rows = _state(), rows_of(40)
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[[2, 5, 11]] = True
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    errors = torch.full((40,), 1e-6)
    errors[[4, 17, 30]] = 1.0
    assert _resample(tensors, dead, rows, errors, 7) == 3
    directions = torch.nn.functional.normalize(rows[[4, 17, 30]], dim=1)
    found = tensors["weights.decoder"][dead]
    cosines = torch.nn.functional.normalize(found, dim=1) @ directions.T
    assert torch.allclose(cosines.max(1).values, torch.ones(3))
    assert len(set(cosines.argmax(1).tolist())) == 3, "each row is drawn once"
    for name in ("encoder", "decoder"):
        norms = before[f"weights.{name}"][~dead].norm(dim=1).mean()
        share = 0.2 if name == "encoder" else 1.0
        own = tensors[f"weights.{name}"][dead].norm(dim=1)
        torch.testing.assert_close(own, (share * norms).expand(3))
    assert not tensors["weights.encoder_bias"][dead].any()
    for name, tensor in tensors.items():
        if name.endswith("decoder_bias"):
            assert torch.equal(tensor, before[name])
            continue
        assert torch.equal(tensor[~dead], before[name][~dead]), name
        if not name.startswith("weights."):
            assert not tensor[dead].any(), f"{name} still moves the feature"


def test_features_that_have_some_columns_take_the_part_of_the_direction_in_them():
    tensors, rows = _state(), rows_of(40)
    dead = torch.arange(FEATURES) < 2
    columns = torch.tensor([[0, WIDTH]] * FEATURES)
    columns[0], columns[1] = torch.tensor([0, 2]), torch.tensor([2, WIDTH])
    assert _resample(tensors, dead, rows, torch.ones(40), 3, columns) == 2
    for name in ("encoder", "decoder"):
        assert not tensors[f"weights.{name}"][0, 2:].any()
        assert not tensors[f"weights.{name}"][1, :2].any()
        assert float(tensors[f"weights.{name}"][0].norm()) > 0


def test_the_draw_depends_on_the_step_and_on_nothing_else():
    dead, rows = torch.arange(FEATURES) < 6, rows_of(40)
    errors = torch.rand(40, generator=torch.Generator().manual_seed(0))
    found = []
    for step in (3, 3, 4):
        tensors = _state()
        _resample(tensors, dead, rows, errors, step)
        found.append(tensors["weights.decoder"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_there_may_be_fewer_rows_than_dead_features_and_no_live_one():
    tensors, rows = _state(), rows_of(2)
    dead = torch.arange(FEATURES) < 6
    assert _resample(tensors, dead, rows, torch.tensor([1.0, 0.0]), 1) == 1
    assert _resample(tensors, dead, rows, torch.zeros(2), 1) == 0
    assert _resample(tensors, dead, torch.zeros(2, WIDTH), torch.ones(2), 1) == 0
    every = torch.ones(FEATURES, dtype=torch.bool)
    assert _resample(tensors, every, rows, torch.ones(2), 1) == 0
