"""FVU where a column of the rows has a large constant offset, beside FVU without it."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from house_figures.figure import Figure

from dictionaries_figures.rows import batches
from isogloss.dictionaries import Source, TrainConfig, evaluate, held_out_batches, train
from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec, Store

OFFSET = 1e4
ROWS, LENGTH = 40_960, 64


def offset() -> Figure:
    """Train on real rows, with and without 1e4 added to one column; float32 rows."""
    rows = batches(ROWS // 512, 512).reshape(ROWS, -1).numpy()
    found = {added: _fvu(rows, added) for added in (0.0, OFFSET)}
    return Figure(
        figure="offset",
        value=round(found[OFFSET] / found[0.0], 4),
        bar=1.02,
        unit="FVU at a constant offset of 1e4 in one column / without, 1,024 features",
        peers={f"{added:g}": round(fvu, 5) for added, fvu in found.items()},
    )


def _fvu(rows: np.ndarray, added: float) -> float:
    moved = rows.copy()
    moved[:, 7] += np.float32(added)
    config = TrainConfig(settings={"features": 1024, "k": 32}, epochs=3.0, seed=0)
    with tempfile.TemporaryDirectory() as place, Store.open(Path(place, "store")) as store:
        source = _recorded(store, moved)
        made = train(config, [source], Path(place, "run"))
        held = held_out_batches(source.reader, source.site, holdout=config.holdout)
        return evaluate(made, [torch.as_tensor(one) for one in held]).fvu


def _recorded(store: Store, rows: np.ndarray) -> Source:
    site = SiteSpec(name="site", width=rows.shape[1], dtype="float32")
    spec = RecordingSpec(
        recording="rows",
        model=ModelInfo(name="none"),
        tokenizer="none",
        corpus="rows",
        sites=(site,),
        has_spans=False,
    )
    recording = store.create_recording(spec, ["a"])
    numbers = np.arange(len(rows)) // LENGTH
    documents = [
        Document.from_token_ids(np.array([n], np.uint32)) for n in range(int(numbers[-1]) + 1)
    ]
    batch = RowBatch(
        producer="rows",
        sequence=1,
        sites={"site": rows},
        token_id=np.zeros(len(rows), np.uint32),
        document=np.array([documents[n].id for n in numbers], np.uint64),
        position=(np.arange(len(rows)) % LENGTH).astype(np.uint32),
        span=None,
        documents=tuple(documents),
    )
    with recording.open_lane() as lane:
        lane.append([batch])
    return Source(reader=recording.reader(), site="site")
