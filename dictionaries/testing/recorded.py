"""A recording of planted rows at two sites, and the run that the contract trains on it."""

import numpy as np

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.settings import settings_to_dict
from isogloss.dictionaries.testing.planted import WIDTH, Wired, planted
from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec, Store

_ROWS, _LENGTH = 2000, 20


def record_planted(store: Store, recording: str = "planted") -> list[Source]:
    """Record 2,000 rows at two sites, ``in`` and ``out``, in documents of 20 rows."""
    rows, _ = planted(_ROWS, 5, 2)
    spec = RecordingSpec(
        recording=recording,
        model=ModelInfo(name=recording),
        tokenizer="numbers",
        corpus="numbers",
        sites=tuple(SiteSpec(name=name, width=WIDTH, dtype="float32") for name in ("in", "out")),
        has_spans=False,
        provenance={},
    )
    made = store.create_recording(spec, ["zero"])
    number = np.arange(_ROWS) // _LENGTH
    documents = [
        Document.from_token_ids(np.array([n], dtype=np.uint32)) for n in range(number[-1] + 1)
    ]
    found = rows.numpy()
    batch = RowBatch(
        producer="planted",
        sequence=1,
        sites={"in": found[:, :WIDTH].copy(), "out": found[:, WIDTH:].copy()},
        token_id=np.zeros(_ROWS, dtype=np.uint32),
        document=np.array([documents[n].id for n in number], dtype=np.uint64),
        position=(np.arange(_ROWS) % _LENGTH).astype(np.uint32),
        span=None,
        documents=tuple(documents),
    )
    lane = made.open_lane()
    lane.append([batch])
    lane.close()
    reader = made.reader()
    return [Source(reader=reader, site=name) for name in ("in", "out")]


def run_config(name: str, kind: Kind, wired: Wired) -> TrainConfig:
    """Return a short run of a kind: some twenty steps, with dead features on the way."""
    return TrainConfig(
        kind=name,
        settings={**settings_to_dict(kind), **wired.settings},
        wiring=wired.wiring,
        batch_rows=128,
        epochs=1.0,
        learning_rate=1e-2,
        dead_after_rows=512,
        checkpoint_every=5,
    )
