"""Patching on SmolLM2: exact beside hooks by hand, its cost, and attribution beside the truth."""

import time
from collections.abc import Callable
from functools import cache
from statistics import median

import numpy as np
import torch
from house_figures.figure import Figure
from torch import Tensor, nn

from isogloss.models import (
    LoadedModel,
    TextPairs,
    Trace,
    agreement,
    attribute,
    indirect_object_pairs,
    layer_sites,
    load_model,
    trace,
)

MODEL = "packaged:smollm2-135m"
COST_BAR = 1.15
_ROUNDS, _PAIRS = 3, 1


@cache
def _loaded() -> tuple[LoadedModel, TextPairs]:
    model = load_model(MODEL, causal=True)
    return model, indirect_object_pairs(model, 4)


@cache
def _traced() -> Trace:
    model, pairs = _loaded()
    return trace(model, pairs, layer_sites(model))


def patching_cost() -> Figure:
    """Time a trace of 30 layers by 14 to 16 positions against as many plain passes, interleaved."""
    model, _ = _loaded()
    pairs = indirect_object_pairs(model, _PAIRS)
    sites = layer_sites(model)
    cells = len(sites) * pairs.clean.shape[1]

    def plain() -> None:
        with torch.no_grad():
            for _ in range(cells):
                model.module(pairs.corrupt)

    ratios: list[float] = []
    plain_s = 0.0
    for _ in range(_ROUNDS):
        plain_s, ours_s = _cpu_s(plain), _cpu_s(lambda: trace(model, pairs, sites))
        ratios.append(ours_s / plain_s)
    return Figure(
        figure="patching_cost",
        value=median(ratios),
        bar=COST_BAR,
        unit="CPU seconds of a trace by those of as many plain passes",
        peers={"cells": cells, "plain passes, CPU s": round(plain_s, 2), "rounds": ratios},
        runs=_ROUNDS,
    )


def patching_exact() -> Figure:
    """Compare the trace's values with a loop of plain forward hooks; none may differ by a bit."""
    model, pairs = _loaded()
    found, sites = _traced(), layer_sites(model)[::6]
    differ = 0
    with torch.no_grad():
        for site in sites:
            module = model.module.get_submodule(site)
            donor = _output(model.module, module, pairs.clean)
            for position in range(pairs.clean.shape[1]):
                logits = _patched(model.module, module, donor, position, pairs.corrupt)
                logs = torch.log_softmax(logits, -1)
                wanted = np.mean(
                    [
                        float(logs[i, right[0]] - logs[i, wrong[0]])
                        for i, (right, wrong) in enumerate(
                            zip(pairs.right, pairs.wrong, strict=True)
                        )
                    ]
                )
                near = found.values[found.sites.index(site), position]
                differ += not np.isclose(near, wanted, rtol=1e-6, atol=1e-6)
    return Figure(
        figure="patching_exact",
        value=differ,
        bar=0,
        unit="cells of the grid that differ from hooks written by hand by more than rounding of "
        "the mean over pairs (1e-6)",
        peers={
            "cells": len(sites) * pairs.clean.shape[1],
            "other libraries": "TransformerLens and nnsight: make test-peers",
        },
    )


def attribution_r() -> Figure:
    """Correlate attribution with the true effects, over the grid of layers and positions."""
    model, pairs = _loaded()
    true, estimated = _traced(), attribute(model, pairs, layer_sites(model))
    r = agreement(estimated, true)
    return Figure(
        figure="attribution_r",
        value=r,
        bar=-1.0,
        at_most=False,
        unit="Pearson r over the grid of layers and positions of indirect objects; reported",
        peers={"largest true effect": float(true.effects.max()), "cells": true.effects.size},
    )


def _cpu_s(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _output(root: nn.Module, module: nn.Module, ids: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda m, a, output: kept.append(_first(output)))
    root(ids)
    handle.remove()
    return kept[0].clone()


def _patched(
    root: nn.Module, module: nn.Module, donor: Tensor, position: int, ids: Tensor
) -> Tensor:
    def patch(m: nn.Module, a: object, output: object) -> object:
        own = _first(output).clone()
        own[:, position] = donor[:, position]
        return (own, *output[1:]) if isinstance(output, tuple) else own

    handle = module.register_forward_hook(patch)
    logits = root(ids).logits[:, -1]
    handle.remove()
    return logits


def _first(output: object) -> Tensor:
    found = output[0] if isinstance(output, tuple) else output
    if not isinstance(found, Tensor):
        raise TypeError(f"a layer gave {type(found).__name__}")
    return found
