"""What a live model's recording is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import isogloss
from isogloss.errors import InvalidInput, NotFound, UnknownSite
from isogloss.models import LoadedModel
from isogloss.service.recording.description import as_known, begun_with, describe
from isogloss.service.recording.options import RecorderOptions
from isogloss.service.values.results import RecordingInfo
from isogloss.store import RecordingSpec, Revision


def loaded() -> LoadedModel:
    module = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.Linear(4, 2))
    return LoadedModel(module=module, tokenizer=None, name="tiny")


def test_a_model_without_tokenizer_is_described_by_its_sites_and_ids() -> None:
    spec, vocabulary = describe(
        loaded(), ["1", "2"], recording="docs", corpus="live", dtype="float16", has_spans=False
    )
    assert vocabulary == ()
    assert [(site.name, site.width, site.dtype) for site in spec.sites] == [
        ("1", 4, "float16"),
        ("2", 2, "float16"),
    ]
    assert (spec.recording, spec.corpus, spec.tokenizer) == ("docs", "live", "ids of tiny")
    assert (spec.model.name, spec.has_spans, dict(spec.provenance)) == ("tiny", False, {})
    assert spec.model.ancestry


def test_what_decides_the_rows_is_kept() -> None:
    spec, _ = describe(
        loaded(),
        ["1"],
        recording="docs",
        corpus="c",
        dtype="float32",
        has_spans=True,
        provenance={"precision": "float32"},
    )
    assert (spec.has_spans, dict(spec.provenance)) == (True, {"precision": "float32"})


def test_a_site_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(UnknownSite, match="9"):
        describe(loaded(), ["9"], recording="docs", corpus="c", dtype="float32", has_spans=False)


class Asked:
    """A store of at most one recording."""

    def __init__(self, spec: RecordingSpec | None) -> None:
        self.spec = spec

    def recording(self, recording: str) -> RecordingInfo:
        if self.spec is None:
            raise NotFound(recording)
        revision = Revision(recording="u", lanes=())
        return RecordingInfo(uid="u", etag="e", spec=self.spec, revision=revision, created=0.0)


def test_training_goes_on_under_the_fingerprint_that_the_recording_began_with() -> None:
    model = loaded()
    first, _ = describe(model, ["1"], recording="d", corpus="c", dtype="float32", has_spans=False)
    with torch.no_grad():
        for weights in model.module.parameters():
            weights += 1
    now, _ = describe(model, ["1"], recording="d", corpus="c", dtype="float32", has_spans=False)
    assert now != first
    assert begun_with(Asked(first), now, 5) == first
    assert begun_with(Asked(first), now, 0) == now
    assert begun_with(Asked(None), now, 5) == now
    other = replace(now, corpus="another")
    assert begun_with(Asked(first), other, 5) == replace(first, corpus="another")


class Widths(nn.Module):
    """Layers of two widths, which a star matches alike."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 12)])

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](self.embedding(input_ids)))


def test_a_glob_of_several_widths_is_refused_before_a_recording_exists(tmp_path: Path) -> None:
    model = LoadedModel(module=Widths(), name="widths")
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        with pytest.raises(InvalidInput, match=r"2 sites of 2 widths, such as layers.0 \(8\)"):
            client.record_documents(model, [[1, 2]], sites=["layers.*"], recording="r")
        assert client.recordings() == []
        named = client.record_documents(
            model, [[1, 2]], sites=["layers.0", "layers.1"], recording="named"
        )
        assert [site.width for site in named.spec.sites] == [8, 12]
        options = RecorderOptions(strict=True)
        with (
            pytest.raises(InvalidInput, match="2 sites of 2 widths"),
            client.record(model.module, sites=["layers.*"], recording="live", options=options),
        ):
            model.module(torch.tensor([[1, 2]]))
        assert [found.id for found in client.recordings()] == ["named"]


def test_a_recording_of_an_earlier_release_goes_on_as_it_was_begun() -> None:
    model = loaded()
    now, _ = describe(
        model, ["1"], recording="d", corpus="c", dtype="float32", has_spans=False,
        provenance={"precision": "float32", "begins": "0"},
    )  # fmt: skip
    known = {name: value for name, value in now.model.ancestry.items() if name != "weights"}
    begun = replace(
        now, provenance={"precision": "float32"}, model=replace(now.model, ancestry=known)
    )
    assert begun != now
    assert begun_with(Asked(begun), now, 0) == begun
    assert begun_with(Asked(now), now, 0) == now
    assert as_known(now.model.ancestry, {}) == now.model.ancestry
