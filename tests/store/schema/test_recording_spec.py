import pytest

from isogloss.errors import (
    InvalidInput,
    InvalidName,
    NotFound,
    ShapeError,
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
