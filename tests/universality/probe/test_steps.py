"""Which training step of a recording a probe reads, and rows of that step alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import InvalidInput, NoSharedDocuments
from isogloss.store import Document, RecordingReader, RowBatch, Store
from isogloss.store.testing import sample_spec
from isogloss.universality import build_probe, segment_rows, step_to_compare

WORDS = 5


def batch(text: str, sequence: int, step: int) -> RowBatch:
    document = Document.from_text(text)
    spec = replace(sample_spec(), has_spans=False)
    rows = np.full((WORDS, 1), step, np.float32)
    return RowBatch(
        producer="p",
        sequence=sequence,
        sites={
            site.name: np.repeat(rows, site.width, 1).astype(site.numpy_dtype)
            for site in spec.sites
        },
        token_id=np.arange(WORDS, dtype=np.uint32),
        document=np.full(WORDS, document.id, np.uint64),
        position=np.arange(WORDS, dtype=np.uint32),
        span=None,
        documents=(document,),
        step=step,
    )


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RecordingReader]]:
    """Recordings by the texts that they have at each of their steps."""
    path: Path = tmp_path_factory.mktemp("steps") / "store"
    both = [f"text {n}" for n in range(30)]
    recorded = {
        "one": {7: both},
        "several": {0: both, 10: both, 20: [*both[:20], "of twenty"]},
        "none": {},
    }
    with Store.open(path) as store:
        made: dict[str, RecordingReader] = {}
        for name, by_step in recorded.items():
            spec = replace(sample_spec(), recording=name, has_spans=False)
            recording = store.create_recording(spec, ["a"])
            texts = [(text, step) for step, found in by_step.items() for text in found]
            with recording.open_lane() as lane:
                lane.append([batch(text, n + 1, step) for n, (text, step) in enumerate(texts)])
            made[name] = recording.reader()
        yield made


@pytest.mark.parametrize(
    ("recording", "trained", "asked", "wanted"),
    [
        ("one", (7,), (), 7),
        ("one", (0,), (20,), 7),  # its only step, whatever is asked of other recordings
        ("several", (10,), (), 10),
        ("several", (10,), (20,), 20),  # a dictionary of another step, by wish
        ("several", (0, 10), (10, 99), 10),
        ("several", (10,), (0, 10), 10),  # of several asked for, its own
    ],
)
def test_the_step_to_compare_at_is_the_only_one_the_one_asked_for_or_its_own(
    readers: dict[str, RecordingReader],
    recording: str,
    trained: tuple[int, ...],
    asked: tuple[int, ...],
    wanted: int,
) -> None:
    assert step_to_compare(readers[recording], trained, asked) == wanted


@pytest.mark.parametrize(
    ("trained", "asked", "message"),
    [
        ((0, 10), (), r"steps 0, 10, 20 \(trained on: 0, 10\).*say which, such as steps=\[20\]"),
        ((20,), (0, 10), r"asked for: 0, 10"),
        ((20,), (99,), r"asked for: 99"),
        ((5,), (), r"trained on: 5"),
    ],
)
def test_a_step_that_is_not_one_is_refused_with_those_that_there_are(
    readers: dict[str, RecordingReader],
    trained: tuple[int, ...],
    asked: tuple[int, ...],
    message: str,
) -> None:
    with pytest.raises(InvalidInput, match=message):
        step_to_compare(readers["several"], trained, asked)
    with pytest.raises(InvalidInput, match="has no rows"):
        step_to_compare(readers["none"], trained, asked)


def test_segments_stand_for_rows_of_one_step(readers: dict[str, RecordingReader]) -> None:
    reader = readers["several"]
    probe = build_probe({"several": reader, "one": readers["one"]}, holdout=1.0)
    with pytest.raises(InvalidInput, match="rows of 3 training steps"):
        segment_rows(probe, reader)
    for step, texts in ((0, 30), (10, 30), (20, 20)):
        rows = segment_rows(probe, reader, [step])
        assert (rows >= 0).sum() == texts * WORDS
        assert set(reader.tokens().step[rows[rows >= 0]].tolist()) == {step}
    alone = build_probe({"several": reader}, holdout=1.0, steps={"several": [20]})
    assert len(alone.documents) == 21
    assert len(build_probe({"several": reader}, holdout=1.0).documents) == 31


def test_a_probe_has_documents_that_are_there_at_each_of_its_steps(
    readers: dict[str, RecordingReader],
) -> None:
    reader = readers["several"]
    probe = build_probe({"several": reader}, holdout=1.0, steps={"several": [0, 20]})
    assert len(probe.documents) == 20
    with pytest.raises(NoSharedDocuments, match="several has 0 at each of the training steps 5"):
        build_probe({"several": reader}, holdout=1.0, steps={"several": [5]})


def test_documents_of_another_step_alone_are_none(readers: dict[str, RecordingReader]) -> None:
    reader = readers["several"]
    whole = build_probe({"several": reader}, holdout=1.0, steps={"several": [20]})
    only = Document.from_text("of twenty").id
    at = whole.documents.tolist().index(only)
    kept = whole.segment_document == at
    forged = replace(
        whole,
        documents=whole.documents[[at]],
        **{
            name: getattr(whole, name)[kept]
            for name in (
                "segment_source",
                "segment_span",
                "stratum_token",
                "stratum_position",
                "half",
                "keys",
            )
        },
        segment_document=np.zeros(int(kept.sum()), np.int32),
    )
    with pytest.raises(NoSharedDocuments, match="0 of the probe's 1 documents at training step 10"):
        segment_rows(forged, reader, [10])
    assert (segment_rows(forged, reader, [20]) >= 0).all()  # the first document alone is enough
