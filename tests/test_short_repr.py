import dataclasses

from isogloss.service import DictionaryInfo, JobInfo, SourceInfo
from isogloss.service.values import results
from isogloss.short_repr import short_repr
from isogloss.store import Revision

REVISION = Revision(recording="uid", lanes=tuple((f"{i:08d}.abc", 1000) for i in range(90)))
SOURCE = SourceInfo(recording="a", recording_uid="uid", site="layer.3", revision=REVISION)
INFO = DictionaryInfo(
    id="a-layer-3",
    uid="u",
    etag="e",
    kind="topk",
    settings={"features": 4096, "k": 32},
    wiring="sae",
    features=4096,
    width=384,
    sources=(SOURCE,),
    metrics={"fvu": 0.21},
    provenance={"curve": [{"step": step, "fvu": 0.5} for step in range(100)], "note": "x" * 900},
    created=1.0,
)


def test_a_dictionary_is_one_readable_line() -> None:
    assert len(repr(dataclasses.replace(INFO, provenance={}))) < 400
    assert len(repr(INFO)) < 500
    assert "\n" not in repr(INFO)
    assert repr(INFO).startswith("DictionaryInfo(id='a-layer-3', uid='u'")
    assert "settings={'features': 4096, 'k': 32}" in repr(INFO)
    assert "..." in repr(INFO)


def test_texts_of_several_lines_stay_on_one() -> None:
    job = JobInfo(
        name="j",
        kind="train",
        state="FAILED",
        step=1,
        total_steps=2,
        metrics={},
        attempt=1,
        created=0.0,
        updated=0.0,
        made="",
        error=("JOB_FAILED", "line\n" * 500),
    )
    assert "\n" not in repr(job)
    assert len(repr(job)) < 400


def test_every_value_with_an_id_or_a_name_is_shown_short() -> None:
    infos = [
        kind
        for name, kind in vars(results).items()
        if name.endswith("Info") and dataclasses.is_dataclass(kind)
    ]
    assert len(infos) > 6
    assert [kind for kind in infos if kind.__repr__ is not short_repr] == []
