"""Which dictionaries can be compared with one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service import made

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput, NotFound
from isogloss.service.client.asking.comparable import comparable
from isogloss.store import Store
from isogloss.store.testing import sample_batch


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with dictionaries of which some cannot be compared, and no probe yet."""
    root = tmp_path_factory.mktemp("crowded") / "store"
    made.fill(root, probe=False)
    with Store.open(root) as store:
        body = dict(store.catalog.get("dictionary", "small").body)
        source = {name: body[name] for name in ("recording", "recording_uid", "site", "revision")}
        two = {**body, "wiring": "crosscoder", "sources": [source, source]}
        store.catalog.put("dictionary", "both", store.catalog.new_uid(), two)
        all_seen = {**body, "provenance": {"config": {"holdout": 0}}}
        store.catalog.put("dictionary", "greedy", store.catalog.new_uid(), all_seen)
        spec = replace(store.recording("small-docs").spec, recording="elsewhere")
        recording = store.create_recording(spec, store.recording("small-docs").vocabulary())
        with recording.open_lane() as lane:
            lane.append([sample_batch(recording.spec, "test", 1)])
        other = {**body, "recording": "elsewhere", "recording_uid": recording.uid}
        store.catalog.put("dictionary", "apart", store.catalog.new_uid(), other)
    return root


@pytest.fixture(scope="module")
def client(crowded: Path) -> Iterator[Client]:
    with isogloss.connect(crowded, read_only=True) as client:
        yield client


def test_what_cannot_be_compared_is_named_with_the_reason(client: Client) -> None:
    found = client.run(comparable("small", None))
    assert found.first.id == "small"
    assert [info.id for info in found.others] == ["large"]
    why = {one.dictionary: one.why for one in found.skipped}
    assert why.keys() == {"both", "greedy", "apart"}
    assert "crosscoder of 2 sites" in why["both"]
    assert "holdout 0" in why["greedy"]
    assert "'elsewhere' shares no document with 'small-docs'" in why["apart"]


def test_where_nothing_is_left_the_error_holds_every_reason(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"both: it is a crosscoder.*; apart: its recording"):
        client.run(comparable("small", ["both", "apart"]))
    with pytest.raises(InvalidInput, match="dictionary 'both' cannot be compared"):
        client.run(comparable("both", None))
    with pytest.raises(NotFound, match="no dictionary 'lost'"):
        client.run(comparable("small", ["lost"]))


def test_nearest_builds_a_probe_of_what_can_be_compared_and_names_the_rest(
    crowded: Path,
) -> None:
    with isogloss.connect(crowded) as client:
        hits = client.nearest(client.dictionary_info("small").feature(14), count=1)
        assert [(hit.dictionary, hit.feature) for hit in hits] == [("large", 14)]
        assert {one.dictionary for one in hits.skipped} == {"both", "greedy", "apart"}
        again = client.nearest(client.dictionary_info("small").feature(14), count=1)
        assert again == hits
        assert {one.dictionary for one in again.skipped} == {"both", "greedy", "apart"}
