"""Real activations: MiniLM-L6, encoder layer 2, reading the standard library's documentation.

MPNet-base's layer 3, and SmolLM2-135M's layer 15, are recorded of the same texts where a figure
wants them. Layers above the site are cut off first: they would take most of the time.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import isogloss
from isogloss.dictionaries import Source, held_out_batches, training_batches, training_rows
from isogloss.models import LoadedModel, load_model, passages, standard_library_texts
from isogloss.store import Store

HOLDOUT = 0.25


class Recorded(NamedTuple):
    """A site of a model, and how much it reads."""

    model: str
    site: str
    layers: str
    """The list of layers, of which those up to the site are run."""
    passages: int


RECORDINGS = {
    "minilm": Recorded("packaged:minilm-l6", "encoder.layer.2", "encoder.layer", 10_000),
    "mpnet": Recorded("packaged:mpnet-base", "encoder.layer.3", "encoder.layer", 10_000),
    "smollm2": Recorded("packaged:smollm2-135m", "layers.15", "layers", 2_500),
}


def folder() -> Path:
    """Return where what is recorded, and what was measured of peers, is kept between runs."""
    own = os.environ.get("ISOGLOSS_BENCHMARKS")
    return Path(own) if own else Path(__file__).resolve().parents[2] / ".cache" / "dictionaries"


def recorded(name: str = "minilm") -> Source:
    """Return a site of ``RECORDINGS``, which the first call records: minutes.

    MiniLM's 10,000 passages of the library of Python 3.11 are 379,082 rows of 384 numbers.
    """
    wanted, root = RECORDINGS[name], folder() / "store"
    done = folder() / f"{name}.recorded"
    if not done.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        found = list(passages(standard_library_texts(), words=100))
        step = max(1.0, len(found) / wanted.passages)
        some = [found[int(n * step)] for n in range(min(wanted.passages, len(found)))]
        with isogloss.connect(root) as client:  # goes on where a run was stopped
            client.record_documents(_cut(wanted), some, sites=[wanted.site], recording=name)
        done.touch()
    return Source(reader=Store.attach(root).recording(name).reader(), site=wanted.site)


def _cut(wanted: Recorded) -> LoadedModel:
    """Load a model without the layers above the site."""
    loaded = load_model(wanted.model)
    if wanted.model == RECORDINGS["minilm"].model:
        return loaded  # six small layers; recordings of earlier releases have them all
    parent, _, last = wanted.layers.rpartition(".")
    holder = loaded.module.get_submodule(parent)
    kept = list(holder.get_submodule(last).children())[: int(wanted.site.rpartition(".")[2]) + 1]
    setattr(holder, last, nn.ModuleList(kept))
    return replace(loaded, name=f"{loaded.name} up to {wanted.site}")


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


def held_out(rows: int = 16_384, name: str = "minilm") -> list[Tensor]:
    """Return rows of documents that no training saw."""
    source = recorded(name)
    return list(held_out_batches(source.reader, source.site, holdout=HOLDOUT, max_rows=rows))
