"""Bodies of dictionaries in the catalog: those of today, and those of the release before."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from isogloss.errors import CorruptData, InvalidInput
from isogloss.service.control.entries import dictionary_info
from isogloss.service.values.dictionary_bodies import (
    settings_of,
    source_to_dict,
    sources_of,
    wiring_of,
)
from isogloss.service.values.results import SourceInfo
from isogloss.store import CatalogEntry, Revision

REVISION: dict[str, object] = {
    "schema_version": 1,
    "recording": "0" * 24,
    "lanes": [["a.1", 3], ["b.2", 4]],
}
OLD_BODY: Mapping[str, object] = {
    "kind": "topk",
    "features": 40,
    "width": 24,
    "k": 3,
    "recording": "small-docs",
    "recording_uid": "0" * 24,
    "site": "layer.1",
    "revision": REVISION,
    "provenance": {"config": {"features": 40, "k": 3}},
    "metrics": {"fvu": 0.25},
}
"""As the release before wrote it."""


def entry(body: Mapping[str, object]) -> CatalogEntry:
    return CatalogEntry(kind="dictionary", id="d", uid="u", etag="e", created_s=1.0, body=body)


def test_a_body_of_the_release_before_is_read() -> None:
    found = dictionary_info(entry(OLD_BODY))
    assert (found.kind, found.wiring, found.features, found.width) == ("topk", "sae", 40, 24)
    assert found.settings == {"features": 40, "k": 3}
    (source,) = found.sources
    assert (source.recording, source.site) == (found.recording, found.site)
    assert (source.recording, source.recording_uid) == ("small-docs", "0" * 24)
    assert source.revision.rows == 7
    assert found.metrics == {"fvu": 0.25}


def test_the_form_of_today_comes_before_the_fields_beside_it() -> None:
    (source,) = sources_of(OLD_BODY)
    other = source_to_dict(source) | {"site": "layer.2"}
    body = {
        **OLD_BODY,
        "settings": {"features": 40, "l1": 0.5},
        "wiring": "crosscoder",
        "sources": [source_to_dict(source), other],
    }
    assert settings_of(body) == {"features": 40, "l1": 0.5}
    assert wiring_of(body) == "crosscoder"
    assert [found.site for found in sources_of(body)] == ["layer.1", "layer.2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": []}, "sources is .*at least one"),
        ({"sources": "x"}, "sources is 'x'"),
        ({"sources": ["x"]}, "a source is 'x'"),
        ({"sources": [{"recording": "r"}]}, "recording_uid is None"),
        ({"settings": 3}, "settings is 3"),
        ({"wiring": None}, "wiring is None"),
        ({"recording": 3}, "recording is 3"),
    ],
)
def test_a_damaged_body_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(CorruptData, match=message):
        dictionary_info(entry({**OLD_BODY, **change}))


def test_a_body_without_anything_has_no_source() -> None:
    with pytest.raises(InvalidInput, match="recording is None"):
        sources_of({})


def test_a_source_keeps_the_training_steps_that_are_not_0() -> None:
    source = SourceInfo(
        recording="r", recording_uid="u", site="s", revision=Revision(recording="u", lanes=())
    )
    assert "steps" not in source_to_dict(source)
    later = replace(source, steps=(0, 9))
    assert sources_of({"sources": [source_to_dict(source), source_to_dict(later)]}) == (
        source,
        later,
    )
