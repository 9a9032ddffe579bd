"""The plan of a training run, made before its first step from config and sources alone."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.chosen import kind_of, wiring_of
from isogloss.dictionaries.config import LeaveOut, TrainConfig
from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.rows.batches import training_rows
from isogloss.dictionaries.rows.joined import SourceRows, join_rows
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.settings import settings_to_dict
from isogloss.dictionaries.training.recipe import Derived, batch_rows_of, derive
from isogloss.dictionaries.wirings.crosscoder import feature_owners
from isogloss.dictionaries.wirings.wiring import WiredColumns, site_columns
from isogloss.errors import InvalidInput
from isogloss.store import RecordingReader

_CURVE_POINTS = 100


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainPlan:
    """Rows, steps and schedule of a run."""

    config: TrainConfig
    """Settings, complete."""
    kind: Kind
    """The kind with its settings."""
    joined: SourceRows
    """The sites to read, pinned; their columns lie side by side."""
    connection: WiredColumns
    """The columns of the rows that the dictionary reads, and those that it reconstructs."""
    keep: NDArray[np.bool_]
    """Rows that may be trained on, ``[rows]`` of the first recording."""
    columns: Tensor | None
    """First column of each feature and the one behind its last, int64 ``[features, 2]``, where some
    features belong to one site; None: all have all columns."""
    total_steps: int
    """Optimiser steps of the run."""
    curve_every: int
    """Steps between points of the training curve."""
    derived: Derived
    """What the config leaves open, completed."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed or 0

    @property
    def rows_seed(self) -> int:
        """Seed of the order of the rows."""
        return self.seed if self.config.rows_seed is None else self.config.rows_seed

    @property
    def parts(self) -> tuple[range, ...]:
        """Columns of the target by site; empty where one site is reconstructed."""
        first, behind = self.connection.writes.start, self.connection.writes.stop
        found = tuple(
            range(part.start - first, part.stop - first)
            for part in site_columns(self.joined.widths)
            if first <= part.start < behind
        )
        return found if len(found) > 1 else ()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0: up, level, down to zero."""
        decay = max(1, round(self.total_steps * self.config.decay))
        rise, fall = (step + 1) / self.derived.warmup_steps, (self.total_steps - step) / decay
        return self.derived.learning_rate * min(1.0, rise, fall)


def least_bytes(config: TrainConfig, widths: Sequence[int]) -> int:
    """Return the bytes of memory that a run needs at the least, whatever its kind.

    Two float32 matrices ``[features, width]``, the two Adam moments of each, and a batch of rows.
    Gradients, copies for checkpoints and what a kind keeps beside come on top.

    Args:
        config: settings, complete.
        widths: widths of the sites that are read.
    """
    width = sum(widths)
    features = kind_of(config).features
    return 4 * width * (6 * features + 2 * batch_rows_of(config))


def complete_config(config: TrainConfig) -> TrainConfig:
    """Return the config with every setting of kind and wiring written out, and the rows of a step.

    What depends on the sources stays open: seed, learning rate, rows until a feature is dead.

    Raises:
        InvalidInput: there is no such kind or wiring, or it refuses a setting.
    """
    kind, wiring = kind_of(config), wiring_of(config)
    settings = {**settings_to_dict(kind), **settings_to_dict(wiring)}
    return replace(config, settings=settings, batch_rows=batch_rows_of(config))


def default_seed(kind: str, sites: Iterable[tuple[str, str]]) -> int:
    """Return the seed of a run that names none.

    Dictionaries that start from the same weights are matched because of it, so each recording, site
    and kind has a start of its own.

    Args:
        kind: name of the kind.
        sites: id of the recording and name of the site, of each source.

    Returns:
        A number below 2**53, which every language's JSON keeps.
    """
    text = json.dumps([kind, *(list(site) for site in sites)])
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16)


def make_plan(
    config: TrainConfig, sources: Sequence[Source], others: Sequence[TrainPlan] = ()
) -> TrainPlan:
    """Work out what a training run will do, from its config and its data; nothing is started.

    Args:
        config: the run's settings; left out settings of the kind take their defaults.
        sources: the sites to train on, each with a reader; of one recording, or of several whose
            rows can be joined, see :func:`isogloss.dictionaries.rows.joined.join_rows`.
        others: plans of the same sources, whose rows are taken where they are the same.

    Returns:
        The plan: the complete config, what to read, and the number of steps.

    Raises:
        UnknownSite: the recording of the sources has no such site.
        InvalidInput: the kind or wiring does not exist, or refuses its settings or sites; the
            sources are of recordings that cannot be joined, or of one with several training steps
            of which the config names none; or the training rows do not fill one batch.
    """
    config = complete_config(config)
    if config.seed is None:
        named = [(source.reader.spec.recording, source.site) for source in sources]
        config = replace(config, seed=default_seed(config.kind, named))
    widths = [source.width for source in sources]
    connection = wiring_of(config).connect(widths)
    joined, keep = _rows(config, sources, others)
    reader, kind = joined.reader, kind_of(config)
    batch_rows = batch_rows_of(config)
    steps_per_epoch = reader.steps_per_epoch(batch_rows, keep=keep)
    if steps_per_epoch < 1:
        raise InvalidInput(
            f"recording {reader.spec.recording!r} has {int(keep.sum())} training rows of "
            f"{len(keep)}, fewer than batch_rows {batch_rows}; record more text, or lower "
            "batch_rows or holdout"
        )
    total_steps = max(1, round(config.epochs * steps_per_epoch))
    return TrainPlan(
        config=config,
        kind=kind,
        joined=joined,
        connection=connection,
        keep=keep,
        columns=_columns_of_features(kind.features, connection, widths),
        total_steps=total_steps,
        curve_every=max(1, total_steps // _CURVE_POINTS),
        derived=derive(config, kind, width=len(connection.writes), total_steps=total_steps),
    )


def _rows(
    config: TrainConfig, sources: Sequence[Source], others: Sequence[TrainPlan]
) -> tuple[SourceRows, NDArray[np.bool_]]:
    """Return the joined rows and which of them may be trained on, found once for equal plans."""
    for other in others:
        same = other.config.holdout == config.holdout and other.config.steps == config.steps
        if same and other.config.leave_out == config.leave_out:
            return other.joined, other.keep
    joined = join_rows(sources, config.steps)
    keep = training_rows(joined.reader, config.holdout, joined.steps[0] or None) & joined.present
    return joined, keep & kept_rows(joined.reader, config.leave_out)


def kept_rows(reader: RecordingReader, leave_out: LeaveOut) -> NDArray[np.bool_]:
    """Mark the rows that are not left out by their place in the document, bool ``[rows]``."""
    keep = np.ones(reader.rows, dtype=np.bool_)
    if not leave_out.positions and not leave_out.document_starts:
        return keep
    tokens = reader.tokens()
    keep &= np.asarray(tokens.position, np.int64) >= leave_out.positions
    if leave_out.document_starts:
        steps = np.broadcast_to(np.asarray(tokens.step, np.uint64), (reader.rows,))
        pairs = np.stack([np.asarray(tokens.document, np.uint64), steps], axis=1)
        order = np.lexsort((np.asarray(tokens.position), pairs[:, 1], pairs[:, 0]))
        ordered = pairs[order]
        begins = np.ones(reader.rows, dtype=np.bool_)
        begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        keep[order[begins]] = False
    return keep


def _columns_of_features(
    features: int, connection: WiredColumns, widths: Sequence[int]
) -> Tensor | None:
    """Return which columns each feature has, where the wiring gives some to one site."""
    if not connection.dedicated:
        return None
    parts = (*site_columns(widths), connection.reads)  # the owner -1 is the last
    owners = feature_owners(features, connection.dedicated)
    return torch.tensor([(parts[owner].start, parts[owner].stop) for owner in owners])
