"""Every kind of the table trains on a recording, resumes, saves, loads and is a dictionary."""

from pathlib import Path

import pytest
import torch

from isogloss.dictionaries import (
    Dictionary,
    Source,
    SparseDictionary,
    TrainConfig,
    evaluate,
    held_out_batches,
    load_dictionary,
    save_dictionary,
    train,
)
from isogloss.dictionaries.kinds.table import KINDS
from isogloss.dictionaries.testing import DictionaryContract
from isogloss.errors import JobCancelled

SETTINGS: dict[str, dict[str, object]] = {
    "batch_topk": {"k": 4},
    "gated": {},
    "jumprelu": {"target_l0": 4.0},
    "matryoshka_batch_topk": {"k": 4, "prefixes": [0.75, 1.0]},
    "relu_l1": {},
    "topk": {"k": 4},
}
"""Settings of each kind that suit rows in which 3 of 64 features fire."""

_made: dict[str, SparseDictionary] = {}


def _config(kind: str) -> TrainConfig:
    return TrainConfig(
        kind=kind,
        settings={"features": 96, **SETTINGS[kind]},
        batch_rows=256,
        epochs=2.0,
        dead_after_rows=2048,
    )


@pytest.fixture(scope="module", params=sorted(KINDS.built_in))
def trained(
    request: pytest.FixtureRequest,
    sources: list[Source],
    tmp_path_factory: pytest.TempPathFactory,
) -> SparseDictionary:
    name: str = request.param
    if name not in _made:
        _made[name] = train(_config(name), sources, tmp_path_factory.mktemp(name) / "run")
    return _made[name]


class TestEveryKind(DictionaryContract):
    @pytest.fixture(autouse=True)
    def _use(self, trained: SparseDictionary) -> None:
        self._trained = trained

    def make(self) -> Dictionary:
        tensors = {name: tensor.clone() for name, tensor in self._trained.tensors.items()}
        return SparseDictionary(
            kind=self._trained.kind,
            settings=self._trained.settings,
            tensors=tensors,
            provenance=self._trained.provenance,
        )


def test_it_reconstructs_documents_that_it_has_not_seen(
    trained: SparseDictionary, sources: list[Source]
):
    batches = held_out_batches(sources[0].reader, sources[0].site, holdout=0.25)
    found = evaluate(trained, batches)
    assert found.fvu < 0.3, (trained.kind, found.to_dict())
    assert 1 < found.l0 < 96 / 4, (trained.kind, found.to_dict())
    curve = trained.provenance.curve
    assert curve[-1].fvu < curve[0].fvu


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(
    trained: SparseDictionary, sources: list[Source], tmp_path: Path
):
    steps = iter([False] * 31 + [True])
    with pytest.raises(JobCancelled):
        train(_config(trained.kind), sources, tmp_path / "run", should_stop=lambda: next(steps))
    again = train(_config(trained.kind), sources, tmp_path / "run")
    assert again.provenance.weights_sha256 == trained.provenance.weights_sha256
    save_dictionary(again, tmp_path / "saved")
    read = load_dictionary(tmp_path / "saved")
    assert read.settings == trained.settings
    for name, tensor in trained.tensors.items():
        assert torch.equal(read.tensors[name], tensor), name
