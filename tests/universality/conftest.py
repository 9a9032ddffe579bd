"""Real recordings, probes and codes, small enough to reason about."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.store import (
    CodesFile,
    CodesWriter,
    Document,
    ModelInfo,
    RecordingReader,
    RecordingSpec,
    RowBatch,
    SiteSpec,
    Store,
)
from isogloss.universality import Probe, ProbedDictionary, load_probed
from isogloss.universality.codes.probed import write_sums
from isogloss.universality.probe.hashing import splitmix64
from isogloss.universality.probe.probe import ProbeOrigin

Spans = list[tuple[int, int]]
Record = Callable[..., RecordingReader]


def whole_words(text: str) -> Spans:
    """Cut words whole: one token each."""
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def pieces(text: str) -> Spans:
    """Cut words to pieces of three characters, as another tokenizer would."""
    return [match.span() for match in re.finditer(r"\w{1,3}|[^\w\s]", text)]


def characters(text: str) -> Spans:
    """Cut to single characters, white space included."""
    return [(n, n + 1) for n in range(len(text))]


CUTS = {"words": whole_words, "pieces": pieces, "characters": characters}


def token_ids(text: str, spans: Spans) -> list[int]:
    """Number the tokens by their text."""
    return [sum(ord(c) * 31**n for n, c in enumerate(text[a:b])) % 50_000 for a, b in spans]


def activations(ids: list[int], width: int, seed: int) -> NDArray[np.float32]:
    """A fixed random row for each token id, and noise."""
    table = np.random.default_rng(seed).standard_normal((4096, width))
    noise = np.random.default_rng(seed + 1).standard_normal((len(ids), width))
    return (table[np.array(ids) % 4096] + 0.3 * noise).astype(np.float32)


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """Record texts (or ``(text, group)``) and return a reader.

    What was recorded before under the same name and settings is returned again: readers are
    pinned, and no test writes to a recording. A name that is taken by other texts goes to the next
    of several stores.
    """
    with ExitStack() as stack:
        stores: list[dict[str, tuple[str, RecordingReader]]] = []
        recorders: list[Record] = []

        def make(
            name: str, documents: Sequence[str | tuple[str, str]], **settings: object
        ) -> RecordingReader:
            key = repr((list(documents), sorted(settings.items())))
            for recordings, recorder_of_store in zip(stores, recorders, strict=True):
                if name not in recordings:
                    recordings[name] = (key, recorder_of_store(name, documents, **settings))
                if recordings[name][0] == key:
                    return recordings[name][1]
            directory = tmp_path_factory.mktemp("shared") / "store"
            recorders.append(recorder(stack.enter_context(Store.open(directory))))
            stores.append({})
            return make(name, documents, **settings)

        yield make


def recorder(store: Store) -> Record:
    """Return a function that records into a store."""

    def make(
        name: str,
        documents: Sequence[str | tuple[str, str]],
        *,
        cut: str = "words",
        has_spans: bool = True,
        max_tokens: int | None = None,
        first_position: int = 0,
        width: int = 8,
        seed: int = 0,
    ) -> RecordingReader:
        spec = RecordingSpec(
            recording=name,
            model=ModelInfo(name=name),
            tokenizer=cut,
            corpus="test",
            sites=(SiteSpec(name="layer", width=width, dtype="float32"),),
            has_spans=has_spans,
            provenance={},
        )
        recording = store.create_recording(spec, ["a", "b"])
        described: list[Document] = []
        ids: list[int] = []
        spans: Spans = []
        counts: list[int] = []
        for given in documents:
            text, group = given if isinstance(given, tuple) else (given, "")
            cuts = CUTS[cut](text)[:max_tokens]
            numbers = token_ids(text, cuts)
            described.append(
                Document.from_text(text, group=group)
                if has_spans
                else Document.from_token_ids(numbers, group=group)
            )
            ids += numbers
            spans += cuts
            counts.append(len(numbers))
        positions = np.concatenate([np.arange(count) for count in counts]) + first_position
        batch = RowBatch(
            producer="p",
            sequence=1,
            sites={"layer": activations(ids, width, seed)},
            token_id=np.array(ids, np.uint32),
            document=np.repeat(np.array([d.id for d in described], np.uint64), counts),
            position=positions.astype(np.uint32),
            span=np.array(spans, np.uint32).reshape(-1, 2) if has_spans else None,
            documents=tuple(described),
        )
        with recording.open_lane() as lane:
            lane.append([batch])
        return recording.reader()

    return make


@pytest.fixture(scope="session")
def write_codes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ProbedDictionary]:
    """Write a ``[segments, features]`` array as the codes of a dictionary on a probe."""

    def make(
        name: str, dense: NDArray[np.float32], present: NDArray[np.bool_] | None = None
    ) -> ProbedDictionary:
        rows = sp.csr_array(dense)
        rows.sort_indices()
        directory = tmp_path_factory.mktemp("codes") / name
        writer = CodesWriter(directory, dense.shape[1])
        writer.append(
            rows.indptr.astype(np.int64),
            rows.indices.astype(np.int32),
            rows.data.astype(np.float32),
        )
        writer.finish({})
        here = np.ones(len(dense), np.bool_) if present is None else present
        write_sums(directory, CodesFile(directory), here)
        return load_probed(directory, name)

    return make


@pytest.fixture(scope="session")
def make_probe() -> Callable[..., Probe]:
    """Build a probe of given strata without recordings, for tests on codes alone."""

    def make(
        segments: int, *, tokens: NDArray[np.int64] | None = None, per_document: int = 50
    ) -> Probe:
        index = np.arange(segments)
        document = (index // per_document).astype(np.int32)
        end = (index % per_document).astype(np.uint32)
        token = index if tokens is None else tokens
        return Probe(
            id="probe",
            uid="0" * 16,
            recordings=(),
            grid="word_ends",
            origin=ProbeOrigin(holdout=0.25, seed=0, segmenter="test"),
            documents=np.arange(document.max() + 1, dtype=np.uint64),
            segment_document=document,
            segment_source=document,
            segment_span=np.stack([end, end + 1], axis=1).astype(np.uint32),
            stratum_token=np.asarray(token, np.int64),
            stratum_position=(index % per_document).astype(np.int32),
            half=(document % 2).astype(np.int8),
            keys=splitmix64(index.astype(np.uint64)),
        )

    return make
