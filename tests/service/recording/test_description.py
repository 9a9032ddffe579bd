"""What a live model's recording is."""

import pytest
from torch import nn

from isogloss.errors import UnknownSite
from isogloss.models import LoadedModel
from isogloss.service.recording.description import describe


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
