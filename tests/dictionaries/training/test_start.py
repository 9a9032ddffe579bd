"""Starts of a run: rows, the geometric median, a given decoder; kept, resumed and refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isogloss.dictionaries.config import Init, TrainConfig
from isogloss.dictionaries.initialise import tensor_hash
from isogloss.dictionaries.maps import fit_map
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.testing.recorded import record_planted
from isogloss.dictionaries.training.plan import make_plan
from isogloss.dictionaries.training.start import geometric_median, initial_weights
from isogloss.dictionaries.training.state import measure
from isogloss.dictionaries.training.train import train
from isogloss.errors import Conflict, InvalidInput, JobCancelled, ShapeError
from isogloss.store import Store

BASE = TrainConfig(
    settings={"features": 32, "k": 2}, batch_rows=128, epochs=1.0, seed=4, checkpoint_every=5
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Source]]:
    with Store.open(tmp_path_factory.mktemp("start") / "store") as store:
        yield record_planted(store)


def config_of(**given: object) -> TrainConfig:
    return replace(BASE, init=Init(**given))  # pyright: ignore[reportArgumentType] - of its types


def test_directions_are_rows_less_their_mean(sources: list[Source]) -> None:
    plan = make_plan(config_of(directions="rows"), sources[:1])
    measured = measure(plan)
    made = initial_weights(plan, measured, None)
    rows = sources[0].reader.take(sources[0].site, np.flatnonzero(plan.keep)).astype(np.float64)
    away = rows * measured.scales[0] - measured.normalisation.mean.numpy()
    unit = away / np.linalg.norm(away, axis=1, keepdims=True)
    cosines = made.decoder.double().numpy() @ unit.T
    assert cosines.max(axis=1) == pytest.approx(np.ones(32), abs=1e-5)
    assert len({*cosines.argmax(axis=1).tolist()}) > 20  # rows of one direction are parallel
    assert torch.equal(made.encoder, made.decoder)
    again = initial_weights(plan, measured, None)
    assert torch.equal(again.decoder, made.decoder)
    other = make_plan(replace(plan.config, seed=5), sources[:1])
    assert not torch.equal(initial_weights(other, measured, None).decoder, made.decoder)


def test_a_transcoder_starts_at_the_rows_of_both_sites(sources: list[Source]) -> None:
    plan = make_plan(replace(config_of(directions="rows"), wiring="transcoder"), sources)
    made = initial_weights(plan, measure(plan), None)
    assert made.encoder.shape == made.decoder.shape
    assert not torch.equal(made.encoder, made.decoder)
    for rows in (made.encoder, made.decoder):
        assert torch.allclose(rows.norm(dim=1), torch.ones(32), atol=1e-5)


def test_the_geometric_median_is_the_least_sum_of_distances_and_minds_no_far_row() -> None:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((301, 5)) + 2.0
    rows[:20] = 1e5
    found = geometric_median(rows)
    assert np.abs(found - 2.0).max() < 0.4
    least = np.linalg.norm(rows - found, axis=1).sum()
    for step in np.eye(5) * 0.05:
        assert least < np.linalg.norm(rows - found - step, axis=1).sum()
        assert least < np.linalg.norm(rows - found + step, axis=1).sum()
    assert np.array_equal(geometric_median(np.ones((4, 3))), np.ones(3))


def test_the_bias_starts_at_the_median_where_that_is_asked_for(sources: list[Source]) -> None:
    plan = make_plan(config_of(bias="median"), sources[:1])
    measured = measure(plan)
    mean = initial_weights(make_plan(BASE, sources[:1]), measured, None).target_mean
    median = initial_weights(plan, measured, None).target_mean
    assert median.dtype == mean.dtype
    assert not torch.allclose(median, mean, atol=1e-3)


@pytest.mark.parametrize("start", ["rows", "given"])
def test_hash_and_cosine_are_of_the_start_and_a_resumed_run_ends_with_the_same_bits(
    sources: list[Source], tmp_path: Path, start: str
) -> None:
    given = torch.randn(32, 20, generator=torch.Generator().manual_seed(0))
    own = given if start == "given" else None
    config = config_of(directions=start)
    plan = make_plan(config, sources[:1])
    first = initial_weights(plan, measure(plan), own)
    whole = train(config, sources[:1], tmp_path / "whole", given=own)
    assert whole.provenance.init_hash == tensor_hash(first.decoder)
    cosine = torch.cosine_similarity(whole.decoder, first.decoder).mean()
    assert whole.provenance.init_cosine == pytest.approx(float(cosine), abs=1e-5)
    asked = iter([False] * 7 + [True])
    with pytest.raises(JobCancelled):
        train(config, sources[:1], tmp_path / "run", given=own, should_stop=lambda: next(asked))
    resumed = train(config, sources[:1], tmp_path / "run", given=own)
    for name in ("init_hash", "init_cosine", "weights_sha256"):
        assert getattr(resumed.provenance, name) == getattr(whole.provenance, name)


def test_a_run_goes_on_from_another_dictionary_sent_through_a_map(
    sources: list[Source], tmp_path: Path
) -> None:
    other = train(BASE, sources[1:], tmp_path / "other")
    here, there = (one.reader.take(one.site, np.arange(2000)).astype(np.float64) for one in sources)
    sent = fit_map(there, here, kind="ridge").directions(other.decoder)
    config = config_of(directions="given", sha256=tensor_hash(sent))
    short = replace(config, epochs=0.2)
    found = train(short, sources[:1], tmp_path / "found", given=sent)
    random = train(replace(BASE, epochs=0.2), sources[:1], tmp_path / "random")
    assert found.provenance.curve[-1].fvu < random.provenance.curve[-1].fvu
    assert config == TrainConfig.from_dict(config.to_dict())


def test_another_given_decoder_is_refused(sources: list[Source], tmp_path: Path) -> None:
    given = torch.randn(32, 20, generator=torch.Generator().manual_seed(0))
    config, asked = config_of(directions="given"), iter([False] * 7 + [True])
    with pytest.raises(JobCancelled):
        train(config, sources[:1], tmp_path, given=given, should_stop=lambda: next(asked))
    with pytest.raises(Conflict, match="hash"):
        train(config, sources[:1], tmp_path, given=given + 1)
    named = config_of(directions="given", sha256="0" * 64)
    with pytest.raises(InvalidInput, match="the config names 0000"):
        train(named, sources[:1], tmp_path / "named", given=given)
    with pytest.raises(InvalidInput, match="not given"):
        train(config, sources[:1], tmp_path / "none")
    with pytest.raises(InvalidInput, match="is 'random' and a decoder is given"):
        train(BASE, sources[:1], tmp_path / "both", given=given)
    with pytest.raises(ShapeError, match=r"wanted floating point \(32, 20\)"):
        train(config, sources[:1], tmp_path / "wide", given=given[:, :5])
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        train(config, sources[:1], tmp_path / "nan", given=given / 0)
    with pytest.raises(InvalidInput, match="directions is 'row'"):
        TrainConfig.from_dict({"features": 8, "init": {"directions": "row"}})
