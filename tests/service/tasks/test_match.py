"""The report that a match job leaves beside its pairs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.service import made
from torch import nn

from isogloss.models import ancestry
from isogloss.service.query.queries import REPORT_FILE
from isogloss.service.tasks.match import (
    _probe_facts,
    _probe_of,
    known_cautions,
    write_report,
)
from isogloss.service.values.dictionary_bodies import source_to_dict
from isogloss.service.values.job_specs import MatchSpec
from isogloss.service.values.json_fields import default_probe_id
from isogloss.service.values.results import SourceInfo
from isogloss.store import CatalogEntry, FileSystem, ModelInfo, Revision, SiteSpec, Store
from isogloss.store.testing import sample_spec


class Watched(FileSystem):
    """Writes down the directories that were synced, and what they held then."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[tuple[Path, list[str]]] = []

    def sync_directory(self, path: Path) -> None:
        self.synced.append((path, self.names(path)))
        super().sync_directory(path)


def test_a_report_is_whole_and_its_name_durable(tmp_path: Path) -> None:
    files = Watched()
    write_report(tmp_path, {"match": "ä", "pairs": [1, 2]}, files)
    assert files.synced == [(tmp_path, [REPORT_FILE])]
    assert json.loads((tmp_path / REPORT_FILE).read_text()) == {"match": "ä", "pairs": [1, 2]}
    write_report(tmp_path, {"match": "b"}, files)
    assert json.loads((tmp_path / REPORT_FILE).read_text()) == {"match": "b"}


def test_a_report_with_numbers_that_json_lacks_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path, {"r": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_match_is_made_on_the_probe_that_is_named_else_the_newest_else_the_default(
    tmp_path: Path,
) -> None:
    spec = MatchSpec(match="m", a="a", b="b")
    revision = Revision(recording="u1", lanes=(("l1", 5),))
    source = SourceInfo(recording="docs", recording_uid="u1", site="s", revision=revision)
    with Store.open(tmp_path) as store:
        sides = [
            store.catalog.put("dictionary", name, uid * 24, {"sources": [source_to_dict(source)]})
            for name, uid in (("a", "1"), ("b", "2"))
        ]
        asked = _probe_of(store, spec, sides)
        assert (asked.recordings, asked.dictionaries) == (("docs",), ("a", "b"))
        assert asked.probe == default_probe_id(["docs"])
        store.catalog.put("probe", "of-one", "3" * 24, {"dictionaries": ["a"]})
        assert _probe_of(store, spec, sides).probe == default_probe_id(["docs"])
        body = {"dictionaries": ["a", "b", "c"], "recordings": ["docs"], "holdout": 0.25}
        both = store.catalog.put("probe", "of-both", "4" * 24, body)
        assert _probe_of(store, spec, sides).probe == "of-both"
        assert _probe_of(store, replace(spec, probe="named"), sides).probe == "named"
        facts = _probe_facts(both)
        assert (facts["id"], facts["uid"], facts["recordings"]) == ("of-both", "4" * 24, ["docs"])
        assert (facts["holdout"], facts["segments"]) == (0.25, None)


@pytest.mark.parametrize(
    ("fingerprints", "names", "is_related"),
    [
        pytest.param((0, 1), ("Net", "Net"), False, id="two models of one class, by default named"),
        pytest.param((0, 0), ("Net", "copy"), True, id="one model under two names"),
        pytest.param((None, None), ("Net", "Net"), True, id="no fingerprint, one name"),
        pytest.param((0, None), ("Net", "Net"), True, id="one fingerprint, one name"),
        pytest.param((None, None), ("Net", "other"), False, id="no fingerprint, two names"),
    ],
)
def test_the_fingerprint_decides_whether_models_are_related_and_not_the_name(
    tmp_path: Path,
    fingerprints: tuple[int | None, int | None],
    names: tuple[str, str],
    is_related: bool,
) -> None:
    with Store.open(tmp_path / "store") as store:
        sides: list[CatalogEntry] = []
        for key, seed, name in zip("ab", fingerprints, names, strict=True):
            torch.manual_seed(seed or 0)
            module = nn.Sequential(nn.Embedding(200, 16), nn.Linear(16, 16))
            info = ModelInfo(name=name, ancestry={} if seed is None else ancestry(module))
            spec = sample_spec(f"r-{key}", sites=(SiteSpec(name="1", width=16, dtype="float32"),))
            store.create_recording(replace(spec, model=info), ["a"])
            torch.manual_seed(ord(key))
            made.write_random_dictionary(store, f"d-{key}", f"r-{key}", "1")
            sides.append(store.catalog.get("dictionary", f"d-{key}"))
        codes = {caution.code for caution in known_cautions(store, sides, (None, None))}
    assert codes == ({"SHARED_ANCESTRY"} if is_related else set())
