"""The plan of a training run, made before its first step from config and sources alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.rows.batches import training_rows
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.settings import settings_to_dict
from isogloss.dictionaries.wirings.load import make_wiring
from isogloss.dictionaries.wirings.wiring import WiredColumns
from isogloss.errors import InvalidInput
from isogloss.store import RecordingReader

_CURVE_POINTS = 100
_WARMUP_SHARE = 0.05
_WARMUP_STEPS = 1_000
_DEAD_ROWS = 10_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainPlan:
    """Rows, steps and schedule of a run."""

    config: TrainConfig
    """Settings, complete."""
    kind: Kind
    """The kind with its settings."""
    reader: RecordingReader
    """The recording, pinned."""
    sites: tuple[str, ...]
    """Sites to read; their columns lie side by side."""
    connection: WiredColumns
    """The columns of the rows that the dictionary reads, and those that it reconstructs."""
    keep: NDArray[np.bool_]
    """Rows that may be trained on, ``[rows]`` of the recording."""
    steps: tuple[int, ...]
    """Training steps of the recorded model that these rows are of, ascending."""
    total_steps: int
    """Optimiser steps of the run."""
    curve_every: int
    """Steps between points of the training curve."""
    dead_after_rows: int
    """Rows of silence after which a feature is dead."""

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0: up, level, down to zero."""
        peak = self.config.learning_rate
        if peak is None:
            peak = default_learning_rate(
                len(self.connection.writes), self.kind.features, self.total_steps
            )
        warmup = max(1, min(_WARMUP_STEPS, round(self.total_steps * _WARMUP_SHARE)))
        decay = max(1, round(self.total_steps * self.config.decay))
        return peak * min(1.0, (step + 1) / warmup, (self.total_steps - step) / decay)


def least_bytes(config: TrainConfig, widths: Sequence[int]) -> int:
    """Return the bytes of memory that a run needs at the least, whatever its kind.

    Two float32 matrices ``[features, width]``, the two Adam moments of each, and a batch of rows.
    Gradients, copies for checkpoints and what a kind keeps beside come on top.

    Args:
        config: settings, complete.
        widths: widths of the sites that are read.
    """
    width = sum(widths)
    features = make_kind(config.kind, config.settings).features
    return 4 * width * (6 * features + 2 * config.batch_rows)


def complete_config(config: TrainConfig) -> TrainConfig:
    """Return the config with every setting of its kind written out, defaults included.

    Raises:
        InvalidInput: there is no such kind or wiring, or the kind refuses a setting.
    """
    make_wiring(config.wiring)
    kind = make_kind(config.kind, config.settings)
    return replace(config, settings=settings_to_dict(kind))


def default_learning_rate(width: int, features: int, total_steps: int) -> float:
    """Return the peak learning rate of a run that names none.

    ``0.06 / sqrt(width) * min(1, sqrt(4096 / features)) * min(1, sqrt(1000 / total_steps))``:
    Adam moves each of the ``width`` numbers of a unit direction by about the learning rate, so the
    first factor keeps the angle of a step. Measured best at width 384 and 3072 features over 200 to
    800 steps (README of this room); the other two factors lead from there to the customary rates of
    long runs with many features (Gao et al. 2024, arXiv 2406.04093).
    """
    crowded = min(1.0, (4096 / features) ** 0.5)
    long = min(1.0, (1000 / total_steps) ** 0.5)
    return 0.06 / width**0.5 * crowded * long


def make_plan(config: TrainConfig, sources: Sequence[Source]) -> TrainPlan:
    """Work out what a training run will do, from its config and its data; nothing is started.

    Args:
        config: the run's settings; left out settings of the kind take their defaults.
        sources: the sites to train on, each with a reader; all of one recording.

    Returns:
        The plan: the complete config, what to read, and the number of steps.

    Raises:
        UnknownSite: the recording of the sources has no such site.
        InvalidInput: the kind or wiring does not exist, or refuses its settings or sites; the
            sources are of several recordings, or of one with several training steps of which the
            config names none; or the training rows do not fill one batch.
    """
    config = complete_config(config)
    reader = _one_reader(sources)
    connection = make_wiring(config.wiring).connect([source.width for source in sources])
    steps = reader.chosen_steps(config.steps or None)
    keep = training_rows(reader, config.holdout, steps or None)
    steps_per_epoch = reader.steps_per_epoch(config.batch_rows, keep=keep)
    if steps_per_epoch < 1:
        raise InvalidInput(
            f"recording {reader.spec.recording!r} has {int(keep.sum())} training rows of "
            f"{len(keep)}, fewer than batch_rows {config.batch_rows}; record more text, or lower "
            "batch_rows or holdout"
        )
    total_steps = max(1, round(config.epochs * steps_per_epoch))
    tenth = max(1, total_steps * config.batch_rows // 10)
    return TrainPlan(
        config=config,
        kind=make_kind(config.kind, config.settings),
        reader=reader,
        sites=tuple(source.site for source in sources),
        connection=connection,
        keep=keep,
        steps=steps,
        total_steps=total_steps,
        curve_every=max(1, total_steps // _CURVE_POINTS),
        dead_after_rows=config.dead_after_rows or min(_DEAD_ROWS, tenth),
    )


def _one_reader(sources: Sequence[Source]) -> RecordingReader:
    """Return the reader of all sources."""
    revisions = {source.reader.revision.id for source in sources}
    if len(revisions) != 1:
        raise InvalidInput(
            f"the sources are of {len(revisions)} revisions of recordings; wanted sites of one "
            "revision of one recording"
        )
    return sources[0].reader
