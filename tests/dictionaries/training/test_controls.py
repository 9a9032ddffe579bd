from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from isogloss.dictionaries import (
    CONTROLS,
    Source,
    TrainConfig,
    initial_decoder,
    train,
    with_controls,
)
from isogloss.dictionaries.training.controls import SOFT_COSINE, Anchor
from isogloss.errors import InvalidInput


def _weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"weights.{name}": torch.randn(6, 4, generator=generator) for name in ("encoder", "decoder")
    }


def _moved(start: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: one + torch.randn(6, 4, generator=generator) for name, one in start.items()}


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(one, other, dim=1)


def test_a_frozen_encoder_is_brought_back_and_nothing_else():
    start = _weights()
    found = _moved(start)
    decoder = found["weights.decoder"].clone()
    Anchor("frozen_encoder", start, free_norms=True).apply(found)
    assert torch.equal(found["weights.encoder"], start["weights.encoder"])
    assert torch.equal(found["weights.decoder"], decoder)


@pytest.mark.parametrize("free_norms", [True, False])
def test_a_frozen_decoder_keeps_its_directions_and_where_they_are_free_trains_its_norms(
    free_norms: bool,
):
    start = _weights()
    found = _moved(start)
    along = (found["weights.decoder"] * start["weights.decoder"]).sum(1)
    along /= start["weights.decoder"].norm(dim=1)
    Anchor("frozen_decoder", start, free_norms=free_norms).apply(found)
    norms = found["weights.decoder"].norm(dim=1)
    torch.testing.assert_close(norms, along.clamp(min=0) if free_norms else torch.ones(6))
    kept = norms > 0
    cosines = _cosines(found["weights.decoder"], start["weights.decoder"])[kept]
    torch.testing.assert_close(cosines, torch.ones_like(cosines))


def test_a_soft_frozen_decoder_is_turned_back_to_the_edge_and_keeps_its_norms():
    start = _weights()
    found = _moved(start)
    before = found["weights.decoder"].clone()
    far = _cosines(before, start["weights.decoder"]) < SOFT_COSINE
    assert 0 < int(far.sum()) < 6
    Anchor("soft_frozen_decoder", start, free_norms=True).apply(found)
    after = found["weights.decoder"]
    assert torch.equal(after[~far], before[~far])
    torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1))
    cosines = _cosines(after, start["weights.decoder"])[far]
    torch.testing.assert_close(cosines, torch.full_like(cosines, SOFT_COSINE))


def test_a_kind_whose_tensors_have_other_names_is_refused():
    with pytest.raises(InvalidInput, match=r"no tensor weights\.decoder"):
        Anchor("frozen_decoder", {"w": torch.zeros(1)}, free_norms=True)


def test_controls_are_the_config_but_for_what_is_held(small_config: TrainConfig):
    found = with_controls(replace(small_config, controls=CONTROLS))
    assert [one.control for one in found] == [None, *CONTROLS]
    assert all(replace(one, control=None) == small_config for one in found[1:])
    assert found[1].differences(small_config) == ["control"]
    assert found[0].differences(small_config) == []
    assert {"control", "controls"} & small_config.to_dict().keys() == set()
    for one in found[:2]:
        assert TrainConfig.from_dict(one.to_dict()) == one
    with pytest.raises(InvalidInput, match="controls is"):
        TrainConfig.from_dict({**small_config.to_dict(), "controls": ["frozen"]})
    with pytest.raises(InvalidInput, match="name each once"):
        with_controls(replace(small_config, controls=("frozen_encoder", "frozen_encoder")))
    with pytest.raises(InvalidInput, match="itself the control"):
        with_controls(replace(found[1], controls=("frozen_encoder",)))


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_a_trained_control_keeps_what_is_held_through_the_whole_run(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path, kind: str
):
    config = replace(small_config, kind=kind, settings={"features": 96})
    wanted = initial_decoder(96, 32, config.seed or 0)
    for control, least in (("frozen_decoder", 0.9999), ("soft_frozen_decoder", SOFT_COSINE)):
        made = train(replace(config, control=control), sources, tmp_path / control)
        cosines = _cosines(made.decoder, wanted)
        assert float(cosines.min()) >= least - 1e-4, control
        assert made.provenance.config is not None
        assert made.provenance.config.control == control
    assert float(cosines.min()) < 0.95, "a soft-frozen decoder moves"
