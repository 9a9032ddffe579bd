"""Real activations: MiniLM-L6, encoder layer 2, reading the standard library's documentation."""

import os
from pathlib import Path

import torch
from torch import Tensor

import isogloss
from isogloss.dictionaries import Source, held_out_batches, training_batches, training_rows
from isogloss.models import load_model, passages, standard_library_texts
from isogloss.store import Store

SITE, RECORDING = "encoder.layer.2", "minilm"
PASSAGES = 10_000
HOLDOUT = 0.25


def folder() -> Path:
    """Return where what is recorded, and what was measured of peers, is kept between runs."""
    own = os.environ.get("ISOGLOSS_BENCHMARKS")
    return Path(own) if own else Path(__file__).resolve().parents[2] / ".cache" / "dictionaries"


def recorded() -> Source:
    """Return the site, which the first call records: about 264,000 rows of 384 numbers."""
    root = folder() / "store"
    root.parent.mkdir(parents=True, exist_ok=True)
    if not (root / "isogloss.json").exists():
        found = list(passages(standard_library_texts(), words=100))
        step = max(1.0, len(found) / PASSAGES)
        some = [found[int(n * step)] for n in range(min(PASSAGES, len(found)))]
        with isogloss.connect(root) as client:
            client.record_documents(
                load_model("packaged:minilm-l6"), some, sites=[SITE], recording=RECORDING
            )
    return Source(reader=Store.attach(root).recording(RECORDING).reader(), site=SITE)


def batches(count: int, rows: int, *, seed: int = 0) -> Tensor:
    """Return training batches ``[count, rows, 384]``, centred variance equal to the width."""
    source = recorded()
    found = training_batches(
        source.reader,
        [source.site],
        seed=seed,
        batch_rows=rows,
        keep=training_rows(source.reader, HOLDOUT),
        start_step=0,
        stop_step=count,
        depth=0,
    )
    every = torch.stack([batch.rows for batch in found])
    flat = every.reshape(-1, every.shape[-1])
    variance = float((flat - flat.mean(0)).square().sum(1).mean())
    return every * (every.shape[-1] / variance) ** 0.5


def held_out(rows: int = 16_384) -> list[Tensor]:
    """Return rows of documents that no training saw."""
    source = recorded()
    return list(held_out_batches(source.reader, source.site, holdout=HOLDOUT, max_rows=rows))
