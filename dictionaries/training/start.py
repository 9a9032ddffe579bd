"""Where the weights of a run start: random directions, rows, or a decoder that is given.

Data rows are the start of several published recipes. Dictionaries of one corpus and seed then start
at the same tokens, and may be matched because of it: random directions are the default.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.initialise import held_to_columns, tensor_hash
from isogloss.dictionaries.initialise import initial_weights as random_weights
from isogloss.dictionaries.kinds.kind import InitialWeights
from isogloss.dictionaries.rows.batches import as_tensor, spread
from isogloss.dictionaries.rows.measure import Measured
from isogloss.dictionaries.training.plan import TrainPlan
from isogloss.errors import InvalidInput, ShapeError

_MEDIAN_ROWS = 1 << 14
_MEDIAN_STEPS = 200
_MEDIAN_CHANGE = 1e-9
_ROWS_STREAM = 7


def initial_weights(plan: TrainPlan, measured: Measured, given: Tensor | None) -> InitialWeights:
    """Return the weights with which a run starts, as its config says; the same at every call.

    Args:
        plan: the run.
        measured: what is known of its rows.
        given: decoder directions of raw rows, ``[features, target_width]``, where the config's
            start has ``directions="given"``; None otherwise.

    Raises:
        InvalidInput: a decoder is given and not asked for, or the other way round; or it is not the
            one that the config's hash names.
        ShapeError: the given decoder has another shape.
    """
    start, normalisation = plan.config.init, measured.normalisation
    if (given is not None) != (start.directions == "given"):
        raise InvalidInput(
            f"init.directions is {start.directions!r} and a decoder is "
            f"{'not ' if given is None else ''}given: give one by `given=` where it is 'given', "
            "and only there"
        )
    made = random_weights(
        features=plan.kind.features,
        seed=plan.seed,
        connection=plan.connection,
        mean=normalisation.mean,
        columns=plan.columns,
    )
    encoder, decoder, target_mean = made.encoder, made.decoder, made.target_mean
    if given is not None:
        decoder = _from_given(plan, given, decoder)
        encoder = decoder if made.reads_what_it_writes else encoder
    elif start.directions == "rows":
        encoder, decoder = _from_rows(plan, measured, made)
    if start.bias == "median":
        median = torch.from_numpy(geometric_median(_scaled(plan, measured, _MEDIAN_ROWS)))
        writes = plan.connection.writes
        target_mean = median[writes.start : writes.stop].to(target_mean)
    return InitialWeights(
        encoder=encoder,
        decoder=decoder,
        mean=made.mean,
        target_mean=target_mean,
        reads_what_it_writes=made.reads_what_it_writes,
    )


def geometric_median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point of the least sum of distances to ``[rows, width]``, ``[width]``.

    Weiszfeld's iteration from the mean: each row weighs the reciprocal of its distance. A few far
    rows move it little, as they move the mean.
    """
    found = rows.mean(axis=0)
    size = float(np.sqrt(np.square(rows - found).sum(axis=1)).mean())
    if size == 0:
        return found
    for _ in range(_MEDIAN_STEPS):
        distances = np.sqrt(np.square(rows - found).sum(axis=1))
        weights = 1 / np.maximum(distances, 1e-12 * size)
        moved = (weights[:, None] * rows).sum(axis=0) / weights.sum()
        change = float(np.sqrt(np.square(moved - found).sum()))
        found = moved
        if change <= _MEDIAN_CHANGE * size:
            break
    return found


def _from_given(plan: TrainPlan, given: Tensor, random: Tensor) -> Tensor:
    """Return a given decoder with rows of norm 1 in scaled units; rows of 0 become random."""
    if given.shape != random.shape or not given.is_floating_point():
        raise ShapeError(
            f"the given decoder is {given.dtype} {tuple(given.shape)}; wanted floating point "
            f"{tuple(random.shape)}"
        )
    wanted, found = plan.config.init.sha256, tensor_hash(given.detach().to(torch.float32))
    if wanted and wanted != found:
        raise InvalidInput(
            f"the given decoder has the sha256 {found}, the config names {wanted}: give the "
            "decoder that the run began with"
        )
    if not bool(torch.isfinite(given).all()):
        raise InvalidInput("the given decoder holds NaN or infinity; wanted finite directions")
    return _unit(held_to_columns_of(plan, given.detach().to(torch.float64)), random)


def _from_rows(
    plan: TrainPlan, measured: Measured, random: InitialWeights
) -> tuple[Tensor, Tensor]:
    """Return encoder and decoder that point to rows, less the mean, drawn by the run's seed."""
    rows = _scaled(plan, measured, None) - measured.normalisation.mean.numpy()
    reads, writes = plan.connection.reads, plan.connection.writes
    found = torch.from_numpy(rows)
    decoder = _unit(
        held_to_columns_of(plan, found[:, writes.start : writes.stop].contiguous()), random.decoder
    )
    if random.reads_what_it_writes:
        return decoder, decoder
    return _unit(found[:, reads.start : reads.stop].contiguous(), random.encoder), decoder


def held_to_columns_of(plan: TrainPlan, rows: Tensor) -> Tensor:
    """Return rows that are 0 outside the columns of each feature; their norms are free."""
    if plan.columns is None:
        return rows
    norms = rows.square().sum(dim=1, keepdim=True).sqrt()
    return held_to_columns(rows.to(torch.float32), plan.columns).to(torch.float64) * norms


def _unit(rows: Tensor, instead: Tensor) -> Tensor:
    """Return rows divided by their norms, float32; those of 0 are taken from ``instead``."""
    norms = rows.square().sum(dim=1, keepdim=True).sqrt()
    made = (rows / norms.clamp(min=1e-30)).to(torch.float32)
    return torch.where(norms > 0, made, instead).contiguous()


def _scaled(plan: TrainPlan, measured: Measured, evenly: int | None) -> NDArray[np.float64]:
    """Return usual rows that are trained on, scaled: ``features`` drawn by seed, or evenly spread.

    With fewer rows than features, rows are drawn several times.
    """
    kept = np.flatnonzero(plan.keep).astype(np.int64)
    if evenly is None:
        draw = np.random.default_rng([plan.seed, _ROWS_STREAM])
        count = plan.kind.features
        # some more, in place of those that are far
        wanted = min(len(kept), 2 * count)
        chosen = np.sort(draw.choice(len(kept), wanted, replace=False))
        numbers = kept[chosen]
    else:
        numbers = spread(kept, evenly)
    parts, usual = list[NDArray[np.float64]](), np.ones(len(numbers), dtype=np.bool_)
    for place, scale in enumerate(measured.scales):
        raw = as_tensor(plan.joined.take(place, numbers)).to(torch.float64).numpy()
        usual &= np.isfinite(raw).all(axis=1)
        raw = np.nan_to_num(raw, posinf=0.0, neginf=0.0)
        if measured.usual:
            usual &= measured.usual[place].mask(raw)
        parts.append(raw * scale)
    rows = np.concatenate(parts, axis=1)[usual]
    if evenly is not None or not len(rows):
        return rows
    order = np.random.default_rng([plan.seed, _ROWS_STREAM, 1]).permutation(len(rows))
    return rows[np.resize(order, plan.kind.features)]
