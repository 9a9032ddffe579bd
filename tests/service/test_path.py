"""The whole path, from appended rows to matched features, on both kinds of client."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tests.service import planted
from tests.service.every_call import EFFECTS, UP
from tests.service.serving import server_on

import isogloss
from isogloss import Client
from isogloss.errors import (
    DeadFeature,
    InvalidInput,
    JobFailed,
    NotFound,
    ShapeError,
)
from isogloss.service.values.results import DictionaryInfo, FeatureRef, Hit, MatchInfo
from isogloss.store import RecordingSpec, RowBatch
from isogloss.store.testing import sample_batch

MORE = {"batch_rows": 512, "learning_rate": 0.01, "checkpoint_every": 20}


class ThroughClient:
    """What ``planted.record`` needs of a store, by way of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._recording = ""

    def create_recording(self, spec: RecordingSpec, vocabulary: Sequence[str]) -> "ThroughClient":
        self._recording = self._client.create_recording(spec, vocabulary).id
        return self

    def open_lane(self) -> "ThroughClient":
        return self

    def append(self, batches: Sequence[RowBatch]) -> None:
        with self._client.appender(self._recording, "test") as appender:
            for batch in batches:
                appender.write(batch)

    def close(self) -> None:
        assert self._client.recording(self._recording).rows == planted.TEXTS * planted.LENGTH


class Walked:
    """A client after the path, and what it was told on the way."""

    def __init__(self, client: Client, store: Path) -> None:
        self.client = client
        self.store = store
        through = ThroughClient(client)
        self.dictionaries: list[DictionaryInfo] = []
        self.steps: list[int] = []
        for seed, recording in enumerate(planted.SITES):
            planted.record(through, recording, seed=seed)  # pyright: ignore[reportArgumentType]
            job = client.train(
                recording,
                site=planted.SITES[recording],
                features=40,
                k=3,
                epochs=6,
                seed=seed,
                more=MORE,
            )
            self.steps = [info.step for info in job.progress()]
            self.dictionaries.append(job.result(120))
        a, b = self.dictionaries
        matching = client.match(a, b)
        self.match: MatchInfo = matching.result(120)
        self.matched = matching.info()
        rows = client.read("small-docs", "layer.1", 0, 5)
        self.codes = client.encode(a, rows)
        self.hits: list[Hit] = []
        self.asked = client.pairs(self.match)[0]
        self.hits = client.nearest(a.feature(self.asked.feature_a), among=[b], count=3)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    store = tmp_path_factory.mktemp("path") / "store"
    with isogloss.connect(store) as client:
        yield Walked(client, store)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    store: Path = tmp_path_factory.mktemp("served-path") / "store"
    with server_on(store, "--workers") as server, isogloss.connect(store) as client:
        yield Walked(client, store)
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "libtorch" not in maps
        assert "faiss" not in maps


@pytest.fixture(params=["local", "served"])
def walked(request: pytest.FixtureRequest) -> Walked:
    return request.getfixturevalue(request.param)


def test_a_match_that_is_done_says_that_all_its_steps_are(walked: Walked) -> None:
    assert walked.matched.state == "SUCCEEDED"
    assert walked.matched.step == walked.matched.total_steps > 1


def test_training_gives_a_dictionary_and_says_how_far_it_is(walked: Walked) -> None:
    a, _ = walked.dictionaries
    assert (a.features, a.width, a.settings["k"], a.recording) == (40, 24, 3, "small-docs")
    assert 0 < a.metrics["fvu"] < 0.5
    assert walked.steps == sorted(walked.steps)
    assert walked.steps[-1] > 0
    assert walked.client.dictionary_info(a.id) == a
    assert {info.id for info in walked.client.dictionaries()} == {
        info.id for info in walked.dictionaries
    }
    again = walked.client.train(
        "small-docs", site="layer.1", features=40, k=3, epochs=6, seed=0, more=MORE
    )
    assert again.result(60) == a


def test_features_of_the_two_models_are_matched(walked: Walked) -> None:
    client = walked.client
    pairs = client.pairs(walked.match)
    assert len(pairs) == walked.match.pairs
    assert pairs == sorted(pairs, key=lambda pair: -pair.r)
    assert pairs[0].r > 0.7
    strong = client.pairs(walked.match.id, min_r=0.5)
    wanted = [asdict(pair) for pair in pairs if pair.r >= 0.5]
    np.testing.assert_equal([asdict(pair) for pair in strong], wanted)  # NaN equals NaN
    assert walked.match.summary()
    assert client.get_match(walked.match.id) == walked.match
    assert [match.id for match in client.matches()] == [walked.match.id]
    [best, *_] = walked.hits
    assert best.feature == walked.asked.feature_b
    assert best.mutual
    assert [hit.r for hit in walked.hits] == sorted((hit.r for hit in walked.hits), reverse=True)


def test_a_feature_is_shown_in_its_contexts(walked: Walked) -> None:
    a, _ = walked.dictionaries
    info = walked.client.feature(a.feature(walked.asked.feature_a), contexts=3)
    assert info.fires > 0
    assert len(info.contexts) == 3
    assert info.contexts[0].value == pytest.approx(info.max_activation, rel=1e-3)
    texts = {document.text for document in planted.documents()}
    peak = info.contexts[0]
    assert any(peak.before + peak.peak + peak.after in (text or "") for text in texts)
    assert info.probe in {probe.id for probe in walked.client.probes()}
    assert walked.client.probe(info.probe).grid == "tokens"


def test_effects_that_are_kept_are_shown_with_the_feature(walked: Walked) -> None:
    client, (a, _) = walked.client, walked.dictionaries
    feature, other = walked.asked.feature_a, (walked.asked.feature_a + 1) % a.features
    kept = replace(EFFECTS, feature=feature)
    assert client.feature(a.feature(feature), contexts=1).token_effects is None
    assert client.keep_token_effects(a, [kept, replace(EFFECTS, feature=other)]) == 2
    found = client.feature(a.feature(feature), contexts=1)
    assert found.token_effects == kept
    assert "a +0.500" in found._repr_html_()
    again = replace(kept, agreement=0.5)
    assert client.keep_token_effects(a.id, [again]) == 2  # in place of the first; others stay
    assert client.feature(a.feature(feature), contexts=1).token_effects == again
    assert client.feature(a.feature(other), contexts=1).token_effects is not None
    assert client.dictionary(a.id).id == a.id  # weights are still those that were saved
    for wrong, said in (
        ([replace(kept, feature=a.features)], "0 to 39"),
        ([kept, kept], "stands twice"),
        ([], "effects of 0 features"),
        ([replace(kept, promoted=UP * 65)], "a list of 65 tokens"),
        ([replace(kept, promoted=(replace(UP[0], token="x" * 300),))], "the longest of 300"),
        ([replace(kept, agreement=math.nan)], "not finite"),
        ([replace(kept, promoted=(replace(UP[0], change=math.inf),))], "not finite"),
    ):
        with pytest.raises(InvalidInput, match=said):
            client.keep_token_effects(a, wrong)
    with pytest.raises(NotFound, match="nothing"):
        client.keep_token_effects("nothing", [kept])


def test_both_clients_come_to_the_same(local: Walked, served: Walked) -> None:
    for ours, theirs in zip(local.dictionaries, served.dictionaries, strict=True):
        assert (ours.id, ours.metrics) == (theirs.id, theirs.metrics)
    np.testing.assert_array_equal(local.codes[0], served.codes[0])
    np.testing.assert_array_equal(local.codes[1], served.codes[1])
    assert local.hits == served.hits
    np.testing.assert_equal(asdict(local.asked), asdict(served.asked))  # NaN where unknown
    assert local.match.summary() == served.match.summary()
    probes = [walked.client.probes()[0] for walked in (local, served)]
    assert probes[0].segments == probes[1].segments


def test_jobs_of_the_asyncio_client_give_what_those_of_the_blocking_one_give(
    served: Walked,
) -> None:
    a, b = served.dictionaries

    async def ask() -> tuple[list[str], DictionaryInfo, MatchInfo]:
        async with await isogloss.connect_async(served.store) as client:
            training = await client.train(
                "small-docs", site="layer.1", features=40, k=3, epochs=6, seed=0, more=MORE
            )
            states = [info.state async for info in training.progress()]
            matching = await client.match(a, b)
            return states, await training.result(60), await matching.result(60)

    states, dictionary, match = asyncio.run(ask())
    assert states[-1] == "SUCCEEDED"
    assert dictionary == a
    assert match == served.match


def test_questions_that_cannot_be_answered_say_why(walked: Walked) -> None:
    client = walked.client
    a, b = walked.dictionaries
    with pytest.raises(InvalidInput, match="40"):
        a.feature(40)
    with pytest.raises(InvalidInput, match="40"):
        client.nearest(FeatureRef(dictionary=a.id, feature=40), among=[b])
    with pytest.raises(InvalidInput):
        client.nearest(a.feature(0), among=[])
    with pytest.raises(NotFound, match="nowhere"):
        client.nearest(a.feature(0), among=[b], probe="nowhere")
    with pytest.raises(ShapeError, match="24"):
        client.encode(a, np.zeros((2, 9), np.float32))
    with pytest.raises(InvalidInput, match="k is 9"):
        client.train("small-docs", site="layer.1", features=8, k=9)
    with pytest.raises(InvalidInput, match="min_r"):
        client.match(a, b, settings={"min_r": 7.0})


def test_a_feature_that_hardly_fires_is_refused(walked: Walked) -> None:
    client, (a, b) = walked.client, walked.dictionaries
    few = client.create_probe(
        list(planted.SITES), dictionaries=[a, b], probe="few", holdout=0.02
    ).result(60)
    fires = [client.feature(a.feature(i), contexts=1, probe=few.id).fires for i in range(40)]
    assert min(fires) < 20
    with pytest.raises(DeadFeature, match=f"{min(fires)}"):
        client.nearest(a.feature(fires.index(min(fires))), among=[b], probe=few.id)
    client.delete_probe(few.id, few.etag)  # else other tests would compare on it


def test_recordings_without_common_or_held_out_documents_cannot_be_compared(
    walked: Walked,
) -> None:
    client = walked.client
    spec = client.recording("small-docs").spec
    client.create_recording(replace(spec, recording="elsewhere"), client.vocabulary("small-docs"))
    with client.appender("elsewhere", "test") as appender:
        appender.write(sample_batch(spec, "test", 1))
    apart = client.create_probe(["small-docs", "elsewhere"], probe="apart", grid="tokens")
    with pytest.raises(JobFailed, match="NO_SHARED_DOCUMENTS"):
        apart.result(60)
    none_held_out = client.create_probe(["small-docs"], probe="none", holdout=1e-9)
    with pytest.raises(JobFailed, match="EMPTY_PROBE"):
        none_held_out.result(60)
