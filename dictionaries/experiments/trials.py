"""Dictionaries of several kinds, trained on rows of known truth and scored against it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.experiments.recovery import Recovery, score_recovery
from isogloss.dictionaries.experiments.superposition import BLOCK_ROWS, Superposition
from isogloss.dictionaries.kinds.load import kind_schema
from isogloss.dictionaries.kinds.table import kind_names
from isogloss.dictionaries.provenance import TrainProgress
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.training.train import train_together
from isogloss.errors import InvalidInput
from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec, Store

SITE = "planted"
"""The site of a recording of planted rows."""
_L0_SETTINGS = ("k", "target_l0")
"""Settings by one of which a kind is asked for so many features a row."""
_DOCUMENT_ROWS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One kind on the rows of one world."""

    world: str
    """Name of what was planted."""
    kind: str
    """Name of the kind."""
    recovery: Recovery
    """How much of it was found."""

    def to_dict(self) -> dict[str, object]:
        """Return names and scores as JSON-ready values."""
        return {"world": self.world, "kind": self.kind, **self.recovery.to_dict()}


def record_superposition(store: Store, planted: Superposition, rows: int, name: str) -> Source:
    """Record planted rows as a recording, in documents of 64 rows.

    Args:
        store: takes the recording.
        planted: what the rows are made of.
        rows: how many; a multiple of 4,096.
        name: id of the recording.

    Returns:
        Its only site.

    Raises:
        InvalidInput: ``rows`` is no such multiple.
    """
    if rows < 1 or rows % BLOCK_ROWS:
        raise InvalidInput(f"rows is {rows}; wanted a multiple of {BLOCK_ROWS:,}")
    spec = RecordingSpec(
        recording=name,
        model=ModelInfo(name="superposition"),
        tokenizer="none",
        corpus="superposition",
        sites=(SiteSpec(name=SITE, width=planted.width, dtype="float32"),),
        has_spans=False,
        provenance={},
    )
    made = store.create_recording(spec, ["row"])
    with made.open_lane() as lane:
        for number in range(rows // BLOCK_ROWS):
            lane.append([_batch(planted, number)])
    return Source(reader=made.reader(), site=SITE)


def _batch(planted: Superposition, number: int) -> RowBatch:
    row = np.arange(BLOCK_ROWS)
    first = number * BLOCK_ROWS // _DOCUMENT_ROWS
    documents = [
        Document.from_token_ids(np.array([first + n], dtype=np.uint32))
        for n in range(BLOCK_ROWS // _DOCUMENT_ROWS)
    ]
    ids = np.array([document.id for document in documents], dtype=np.uint64)
    return RowBatch(
        producer="planted",
        sequence=number + 1,
        sites={SITE: planted.block(number).rows},
        token_id=np.zeros(BLOCK_ROWS, dtype=np.uint32),
        document=ids[row // _DOCUMENT_ROWS],
        position=(row % _DOCUMENT_ROWS).astype(np.uint32),
        span=None,
        documents=tuple(documents),
    )


def trial_kinds() -> tuple[str, ...]:
    """Return the kinds that can be tried: all that can be asked for so many features a row."""
    return tuple(kind for kind in kind_names() if _l0_setting(kind) is not None)


def _l0_setting(kind: str) -> str | None:
    """Return the setting of a kind that says how many features fire on a row."""
    known = kind_schema(kind)["properties"]
    return next((name for name in _L0_SETTINGS if name in cast("dict[str, object]", known)), None)


def trial_config(
    kind: str, *, features: int, fires: float, epochs: float, seed: int
) -> TrainConfig:
    """Return how a kind is trained on planted rows: its defaults, and as many features a row.

    Raises:
        InvalidInput: it is not known by which setting of the kind features a row are asked for.
    """
    setting = _l0_setting(kind) if kind in kind_names() else None
    if setting is None:
        raise InvalidInput(f"kind {kind!r} is none of {', '.join(trial_kinds())}")
    wanted = max(1, round(fires)) if setting == "k" else fires
    return TrainConfig(
        kind=kind,
        settings={"features": features, setting: wanted},
        epochs=epochs,
        seed=seed,
        holdout=0.0,
        checkpoint_every=2**53,
    )


def run_trials(
    worlds: Mapping[str, Superposition],
    kinds: Sequence[str],
    directory: Path,
    *,
    features: int | None = None,
    rows: int = 131_072,
    epochs: float = 8.0,
    seed: int = 0,
    on_progress: Callable[[str, str, TrainProgress], None] | None = None,
) -> list[Trial]:
    """Train kinds on planted rows by their defaults, and score what they found.

    All kinds of a world are trained from one read, asked for as many features a row as were
    planted.

    Args:
        worlds: what is planted, by name.
        kinds: names of kinds.
        directory: takes recordings and runs; empty or new.
        features: of each dictionary; None: twice as many as were planted.
        rows: of each recording; a multiple of 4,096.
        epochs: passes over them.
        seed: of the initial weights and the order of rows.
        on_progress: called with names of world and kind.

    Returns:
        A trial for each world and kind, in their order.

    Raises:
        InvalidInput: a kind is not known, or ``rows`` is no such multiple.
    """
    trials: list[Trial] = []
    for world, planted in worlds.items():
        size = 2 * planted.features if features is None else features
        configs = [
            trial_config(kind, features=size, fires=planted.fires, epochs=epochs, seed=seed)
            for kind in kinds
        ]
        with Store.open(directory / world / "store") as store:
            source = record_superposition(store, planted, rows, world)

            def told(place: int, progress: TrainProgress, world: str = world) -> None:
                if on_progress is not None:
                    on_progress(world, kinds[place], progress)

            runs = [directory / world / kind for kind in kinds]
            made = train_together(configs, [source], runs, on_progress=told)
        trials += [
            Trial(world=world, kind=kind, recovery=score_recovery(one, planted))
            for kind, one in zip(kinds, made, strict=True)
        ]
    return trials
