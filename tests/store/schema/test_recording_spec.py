from dataclasses import replace

import pytest

from isogloss.errors import (
    InvalidInput,
    InvalidName,
    NotFound,
    ShapeError,
    UnknownSite,
    UnsupportedVersion,
)
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec
from isogloss.store.testing import sample_spec


def test_a_specification_survives_json() -> None:
    spec = sample_spec()
    assert RecordingSpec.from_dict(spec.to_dict()) == spec


def test_a_specification_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(UnsupportedVersion, match="schema version 99"):
        RecordingSpec.from_dict({**sample_spec().to_dict(), "schema_version": 99})


@pytest.mark.parametrize("field", ["recording", "model", "sites", "tokenizer", "provenance"])
def test_a_specification_without_a_field_is_refused(field: str) -> None:
    document = sample_spec().to_dict()
    del document[field]
    with pytest.raises(InvalidInput, match=field):
        RecordingSpec.from_dict(document)


def test_sites_are_checked() -> None:
    with pytest.raises(ShapeError, match="width 0"):
        SiteSpec(name="x", width=0)
    with pytest.raises(InvalidName, match="0 characters"):
        SiteSpec(name="", width=1)
    with pytest.raises(ShapeError, match="float64"):
        SiteSpec.from_dict({"name": "x", "width": 1, "dtype": "float64"})
    twice = SiteSpec(name="x", width=1)
    with pytest.raises(InvalidInput, match="named twice"):
        sample_spec(sites=(twice, twice))
    with pytest.raises(InvalidInput, match="0 sites"):
        sample_spec(sites=())
    with pytest.raises(NotFound, match="layer\\.1/out"):
        sample_spec().site_index("nope")


def test_ancestry_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidInput, match="plain JSON"):
        RecordingSpec(
            recording="x",
            model=ModelInfo(name="m", ancestry={"x": object()}),
            tokenizer="t",
            corpus="c",
            sites=(SiteSpec(name="x", width=1),),
            has_spans=False,
        )


def test_a_site_is_found_with_and_without_the_prefix_of_its_model() -> None:
    sites = (SiteSpec(name="model.layers.3", width=4), SiteSpec(name="layers.1.mlp", width=8))
    spec = replace(sample_spec(), sites=sites)
    for name in ("model.layers.3", "layers.3"):
        assert (spec.site_index(name), spec.site_name(name)) == (0, "model.layers.3")
    assert spec.site_name("model.layers.1.mlp") == "layers.1.mlp"
    with pytest.raises(UnknownSite, match=r"no site 'layer\.3'; nearest: model\.layers\.3"):
        spec.site_index("layer.3")


def test_a_site_that_may_be_one_of_two_is_refused_and_both_are_named() -> None:
    sites = (SiteSpec(name="model.layers.3", width=4), SiteSpec(name="teacher.layers.3", width=4))
    with pytest.raises(UnknownSite, match=r"model\.layers\.3, teacher\.layers\.3|teacher.*model"):
        replace(sample_spec(), sites=sites).site_index("layers.3")
