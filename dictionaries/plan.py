"""What a training run will do, settled before its first step: a pure function of its inputs."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.loader import as_tensor, spread, training_rows
from isogloss.errors import InvalidInput, NonFiniteRows
from isogloss.store import RecordingReader

_SAMPLE_ROWS = 1 << 17
_CHUNK_ROWS = 1 << 13
_CURVE_POINTS = 100
_WARMUP_SHARE = 0.05
_WARMUP_STEPS = 1_000
_DEAD_ROWS = 10_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainPlan:
    """Rows, steps and schedule of a run."""

    config: TrainConfig
    """Settings."""
    site: str
    """Site to read."""
    width: int
    """Its width."""
    keep: NDArray[np.bool_]
    """Rows that may be trained on, ``[rows]`` of the recording."""
    total_steps: int
    """Optimiser steps of the run."""
    curve_every: int
    """Steps between points of the training curve."""
    dead_after_rows: int
    """Rows of silence after which a feature is dead."""
    aux_k: int
    """Dead features used per row by the auxiliary loss."""

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0: up, level, down to zero."""
        peak = self.config.learning_rate
        if peak is None:
            peak = default_learning_rate(self.width, self.config.features, self.total_steps)
        warmup = max(1, min(_WARMUP_STEPS, round(self.total_steps * _WARMUP_SHARE)))
        decay = max(1, round(self.total_steps * self.config.decay))
        return peak * min(1.0, (step + 1) / warmup, (self.total_steps - step) / decay)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Normalisation:
    """Statistics of the training rows, by which they are scaled."""

    scale: float
    """Factor that makes the mean squared row norm equal to the width."""
    variance: float
    """Total variance of the scaled rows: mean of |x - mean|^2."""
    mean: Tensor
    """Mean scaled row, float64 ``[width]``."""


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


def make_plan(config: TrainConfig, reader: RecordingReader, site: str) -> TrainPlan:
    """Settle what a run will do.

    Raises:
        UnknownSite: the recording has no such site.
        InvalidInput: the training rows do not fill one batch.
    """
    width = reader.spec.sites[reader.spec.site_index(site)].width
    keep = training_rows(reader, config.holdout)
    steps_per_epoch = reader.steps_per_epoch(config.batch_rows, keep=keep)
    if steps_per_epoch < 1:
        raise InvalidInput(
            f"recording {reader.spec.recording!r} has {int(keep.sum())} training rows of "
            f"{len(keep)}, fewer than batch_rows {config.batch_rows}; record more text, or lower "
            "batch_rows or holdout"
        )
    total_steps = max(1, round(config.epochs * steps_per_epoch))
    tenth = max(1, total_steps * config.batch_rows // 10)
    aux_k = width // 2 if config.aux_k is None else config.aux_k
    return TrainPlan(
        config=config,
        site=site,
        width=width,
        keep=keep,
        total_steps=total_steps,
        curve_every=max(1, total_steps // _CURVE_POINTS),
        dead_after_rows=config.dead_after_rows or min(_DEAD_ROWS, tenth),
        aux_k=min(aux_k, config.features),
    )


def measure_rows(reader: RecordingReader, plan: TrainPlan) -> Normalisation:
    """Measure mean, norm and variance of at most 131,072 evenly spaced training rows.

    Sums are numpy's, in float64 and one thread: the bits do not depend on the thread count.

    Raises:
        InvalidInput: the rows do not vary.
        NonFiniteRows: a row holds NaN or infinity.
    """
    rows = spread(np.flatnonzero(plan.keep).astype(np.int64), _SAMPLE_ROWS)
    total, squares = np.zeros(plan.width), np.zeros(plan.width)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = as_tensor(reader.take(plan.site, rows[start : start + _CHUNK_ROWS]))
        values = chunk.to(torch.float64).numpy()
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    mean, power = total / len(rows), squares / len(rows)
    if not np.isfinite(power).all():
        raise NonFiniteRows(
            f"site {plan.site!r} has rows with NaN or infinity; wanted finite activations: record "
            "in a wider dtype (bfloat16 or float32) or without those documents"
        )
    variance = float((power - np.square(mean)).sum())
    if variance <= 1e-12 * float(power.sum()):
        raise InvalidInput(
            f"the {len(rows)} training rows of site {plan.site!r} do not vary; there is nothing to "
            "learn: check what the hook of this site records"
        )
    scale = (plan.width / float(power.sum())) ** 0.5
    return Normalisation(
        scale=scale, variance=variance * scale * scale, mean=torch.from_numpy(mean * scale)
    )
