"""The atlas of a probe: built anew while questions are asked, and where it is damaged."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.service import planted
from tests.service.run_here import run_here

from isogloss.service.query.queries import Queries
from isogloss.store import Store
from isogloss.universality import Atlas, load_probed

PROBE = "both-docs"


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with two dictionaries on a probe."""
    with Store.open(tmp_path_factory.mktemp("probe") / "store") as store:
        for seed, (recording, name) in enumerate(
            (("small-docs", "small"), ("large-docs", "large"))
        ):
            planted.record(store, recording, seed=seed + 1)
            run_here(store, "train", planted.train_spec(recording, name, seed=seed))
        spec: dict[str, object] = {"probe": PROBE, "recordings": ["small-docs", "large-docs"]}
        run_here(store, "probe", {**spec, "dictionaries": ["small", "large"]})
        yield store


def _fires(store: Store, dictionary: str) -> NDArray[np.int64]:
    entry = store.catalog.get("probe", PROBE)
    uid = store.catalog.get("dictionary", dictionary).uid
    return load_probed(store.artifact("codes", uid, entry.uid), dictionary).moments.fires


def _index_anew(store: Store) -> None:
    """Index a probe again, as if its atlas lacked all dictionaries."""
    entry = store.catalog.get("atlas", PROBE)
    body = {**entry.body, "dictionaries": {}}
    store.catalog.put("atlas", PROBE, entry.uid, body, replace=True)
    spec: dict[str, object] = {"probe": PROBE, "recordings": [], "dictionaries": ["small"]}
    run_here(store, "probe", spec)


def test_questions_are_answered_while_an_atlas_is_built_anew(matched: Store) -> None:
    feature = int(np.argmax(_fires(matched, "small")))
    queries = Queries(matched)
    wanted = queries.nearest("small", feature, ["large"])
    ended, answers = threading.Event(), list[object]()

    def ask() -> None:
        while not ended.is_set():
            answers.append(queries.nearest("small", feature, ["large"]))
            answers.append(Queries(matched).nearest("small", feature, ["large"]))

    before, asking = matched.catalog.get("atlas", PROBE).uid, threading.Thread(target=ask)
    asking.start()
    try:
        _index_anew(matched)
    finally:
        ended.set()
        asking.join()
    answers.append(queries.nearest("small", feature, ["large"]))
    assert matched.catalog.get("atlas", PROBE).uid != before
    assert all(answer == wanted for answer in answers)


def test_a_damaged_atlas_is_built_anew(matched: Store) -> None:
    directory = matched.artifact("atlas", matched.catalog.get("atlas", PROBE).uid)
    for chunk in directory.glob("index.*/c.*"):
        chunk.write_bytes(b"x" * chunk.stat().st_size)
    _index_anew(matched)
    Atlas.load(matched.artifact("atlas", matched.catalog.get("atlas", PROBE).uid)).check()
