"""Causal tracing: patch one activation at a time and see what the model says then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.elements.place import distinct_sites
from isogloss.models.elements.rows import pattern_axis
from isogloss.models.hooks import capture, evaluating, splice
from isogloss.models.patching.metrics import Metric, check_metric, last_logits, measure
from isogloss.models.patching.pairs import TextPairs, check_pairs
from isogloss.models.resolve import device_of
from isogloss.models.wrappers import LoadedModel, unwrapped

Mode = Literal["denoise", "noise"]
"""``denoise``: a clean activation in the corrupt run. ``noise``: a corrupt one in the clean run."""

Positions = Sequence[int] | Literal["each", "all"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Effects of activations on what a model says, a grid of sites and positions."""

    model: str
    """Name of the model."""
    sites: tuple[str, ...]
    """Where activations were patched."""
    positions: tuple[int, ...]
    """At which tokens; one entry, -1, where all were patched at once."""
    tokens: tuple[str, ...]
    """The first clean text's tokens at these positions; ``all`` where all were patched at once."""
    effects: NDArray[np.float64]
    """Share of the way from the unpatched run to the other one, ``[sites, positions]``: 0 changes
    nothing, 1 does as much as the other text."""
    values: NDArray[np.float64]
    """The metric itself, mean over pairs, ``[sites, positions]``."""
    clean: float
    """The metric of the clean texts, mean over pairs."""
    corrupt: float
    """The metric of the corrupt texts, mean over pairs."""
    metric: Metric
    """What was measured."""
    mode: Mode
    """Which run was patched from which."""

    def to_dict(self) -> dict[str, object]:
        """Return the trace as JSON holds it."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return found | {"effects": self.effects.tolist(), "values": self.values.tolist()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Both runs of the pairs, with what passed the sites."""

    root: nn.Module
    """The model."""
    base: Tensor
    """Token ids of the run that is patched, ``[pairs, tokens]``."""
    own: dict[str, Tensor]
    """Its activations."""
    donor: dict[str, Tensor]
    """The other run's activations."""
    clean_logits: Tensor
    """At the last position, ``[pairs, vocabulary]``."""
    corrupt_logits: Tensor
    """At the last position, ``[pairs, vocabulary]``."""
    columns: tuple[int, ...]
    """Positions of the grid; (-1,): all at once."""
    axes: dict[str, int]
    """Of each site the axis of its tokens."""


def trace(
    model: LoadedModel,
    pairs: TextPairs,
    sites: Sequence[str],
    *,
    positions: Positions = "each",
    metric: Metric = "logit_difference",
    mode: Mode = "denoise",
) -> Trace:
    """Patch each site at each position, one pass of all pairs each, and measure.

    Meng et al. 2022 (causal tracing), Wang et al. 2022, Heimersheim and Nanda 2024 (noising and
    denoising). Two more passes read the activations of the clean and of the corrupt texts.

    Args:
        model: a causal language model, see ``load_model(name, causal=True)``.
        pairs: clean and corrupt texts.
        sites: names as :func:`isogloss.models.capture` takes them: layers, heads, queries, ...
        positions: ``each``, ``all`` at once (one column), or a choice; negative ones count from
            the end. Of a pattern they are the queries'.
        metric: ``logit_difference``, ``probability`` of the right tokens, or ``kl`` from the clean
            run's next token.
        mode: ``denoise`` puts clean activations into the corrupt run, ``noise`` the reverse.

    Raises:
        UnknownSite: there is no such submodule.
        InvalidInput: a setting cannot be used, two sites are one place, texts are longer than the
            model's context, or the metric tells no difference between clean and corrupt texts.
        ShapeError: a site has no row for each token.
    """
    runs = run_pairs(model, pairs, sites, positions=positions, metric=metric, mode=mode)
    values = np.empty((len(sites), len(runs.columns)))
    with torch.no_grad(), evaluating(runs.root):
        for i, site in enumerate(sites):
            for j, column in enumerate(runs.columns):
                patch = _patched(runs.donor[site], runs.axes[site], column)
                with splice(runs.root, {site: patch}):
                    logits = last_logits(runs.root, runs.base)
                values[i, j] = float(measure(metric, logits, pairs, runs.clean_logits).mean())
    return finished(model, pairs, runs, values, sites=sites, metric=metric, mode=mode)


def run_pairs(
    model: LoadedModel,
    pairs: TextPairs,
    sites: Sequence[str],
    *,
    positions: Positions,
    metric: Metric,
    mode: Mode,
) -> Runs:
    """Check what was asked for, and run the clean and the corrupt texts once.

    Args:
        model: see :func:`trace`.
        pairs: see :func:`trace`.
        sites: see :func:`trace`.
        positions: see :func:`trace`.
        metric: see :func:`trace`.
        mode: see :func:`trace`.

    Raises:
        UnknownSite, InvalidInput, ShapeError: see :func:`trace`.
    """
    root, length = unwrapped(model.module), pairs.clean.shape[1]
    check_metric(metric)
    if mode not in ("denoise", "noise"):
        raise InvalidInput(f"mode is {mode!r}; wanted 'denoise' or 'noise'")
    check_pairs(model, pairs)
    columns = _columns(positions, length)
    names = distinct_sites(root, sites)
    device = device_of(root)
    seen: list[dict[str, Tensor]] = []
    logits: list[Tensor] = []
    with torch.no_grad(), evaluating(root), capture(root, names) as captured:
        for ids in (pairs.clean, pairs.corrupt):
            logits.append(last_logits(root, ids.to(device)))
            seen.append({name: captured[name] for name in names})
    axes = {name: _token_axis(name, seen[0][name], length) for name in names}
    donor, own = seen if mode == "denoise" else (seen[1], seen[0])
    base = pairs.corrupt if mode == "denoise" else pairs.clean
    return Runs(
        root=root,
        base=base.to(device),
        own=own,
        donor=donor,
        clean_logits=logits[0],
        corrupt_logits=logits[1],
        columns=columns,
        axes=axes,
    )


def finished(
    model: LoadedModel,
    pairs: TextPairs,
    runs: Runs,
    values: NDArray[np.float64],
    *,
    sites: Sequence[str],
    metric: Metric,
    mode: Mode,
) -> Trace:
    """Put the measured values between those of the two runs.

    Args:
        model: see :func:`trace`.
        pairs: see :func:`trace`.
        runs: of the pairs.
        values: of the metric, ``[sites, positions]``.
        sites: see :func:`trace`.
        metric: see :func:`trace`.
        mode: see :func:`trace`.

    Raises:
        InvalidInput: the metric is the same on clean and corrupt texts, or not finite somewhere.
    """
    clean, corrupt = ends(runs, pairs, metric)
    if len(odd := np.argwhere(~np.isfinite(values))):
        raise InvalidInput(
            f"{metric} is not finite where {sites[odd[0, 0]]!r} is patched: what is put there does "
            "not fit the run; load the model in float32, or choose other texts"
        )
    start, end = (corrupt, clean) if mode == "denoise" else (clean, corrupt)
    is_all = runs.columns == (-1,)
    return Trace(
        model=model.name,
        sites=tuple(sites),
        positions=runs.columns,
        tokens=("all",) if is_all else tuple(pairs.tokens[at] for at in runs.columns),
        effects=(values - start) / (end - start),
        values=values,
        clean=clean,
        corrupt=corrupt,
        metric=metric,
        mode=mode,
    )


def ends(runs: Runs, pairs: TextPairs, metric: Metric) -> tuple[float, float]:
    """Return the metric of the clean and of the corrupt texts, means over pairs.

    Args:
        runs: of the pairs.
        pairs: clean and corrupt texts.
        metric: what is measured.

    Raises:
        InvalidInput: they are the same, so that no effect can be told.
    """
    found = [
        float(measure(metric, logits, pairs, runs.clean_logits).mean())
        for logits in (runs.clean_logits, runs.corrupt_logits)
    ]
    return told_apart(found[0], found[1], metric)


def told_apart(clean: float, corrupt: float, metric: Metric) -> tuple[float, float]:
    """Return the metric of the clean and of the corrupt texts, if they differ.

    Args:
        clean: of the clean texts, mean over pairs.
        corrupt: of the corrupt ones.
        metric: what was measured.

    Raises:
        InvalidInput: they are the same, so that no effect can be told.
    """
    found = (clean, corrupt)
    if not np.isfinite(found).all() or abs(clean - corrupt) <= 1e-6 * max(map(abs, found)):
        raise InvalidInput(
            f"{metric} is {clean:.4g} on the clean texts and {corrupt:.4g} on the corrupt ones: "
            "the model tells no difference between them, so that nothing can be traced"
        )
    return clean, corrupt


def _columns(positions: Positions, length: int) -> tuple[int, ...]:
    if positions == "all":
        return (-1,)
    if positions == "each":
        return tuple(range(length))
    if isinstance(positions, str) or not positions:
        raise InvalidInput(f"positions is {positions!r}; wanted 'each', 'all' or some numbers")
    if odd := [at for at in positions if not hasattr(at, "__index__") or isinstance(at, bool)]:
        raise InvalidInput(f"positions {odd} are no whole numbers; name tokens by theirs")
    found = tuple(int(at) + length if at < 0 else int(at) for at in positions)
    if any(not 0 <= at < length for at in found) or len(set(found)) < len(found):
        raise InvalidInput(
            f"positions {list(positions)}: texts have {length} tokens; name each once"
        )
    return found


def _token_axis(name: str, found: Tensor, length: int) -> int:
    axis = pattern_axis(name) or 1
    if found.ndim <= axis or found.shape[axis] != length:
        raise ShapeError(
            f"site {name!r} gives {list(found.shape)} for texts of {length} tokens: axis {axis} is "
            "not theirs; choose another site"
        )
    return axis


def _patched(donor: Tensor, axis: int, column: int) -> Callable[[Tensor], Tensor]:
    if column < 0:
        return lambda own: donor

    def patch(own: Tensor) -> Tensor:
        made = own.clone()
        made.select(axis, column).copy_(donor.select(axis, column))
        return made

    return patch
