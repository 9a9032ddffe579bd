"""Runs with edges cut, beside patching whole heads, queries, keys, values and MLPs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel
from isogloss.models.circuits.runs import EdgeRuns, edge_runs
from isogloss.models.patching.tracing import trace

MADE_LIKE_TRANSFORMERS = ("llama", "gpt2", "gpt_neox", "phi3", "gpt_oss")
LAYERS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}


def without(runs: EdgeRuns, *, writer: str | None = None, reader: str | None = None) -> float:
    """Return the metric with all edges cut from a writer, or into a reader."""
    edges, kept = runs.stream.edges, runs.stream.edges.exist.copy()
    for i, one in enumerate(edges.writers):
        kept[i] &= one.name != writer
    for j, other in enumerate(edges.readers):
        kept[:, j] &= other.name != reader
    assert kept.sum() < edges.exist.sum()
    return runs.value(kept)


def patched(name: str, site: str) -> float:
    layers = LAYERS.get(name, "model.layers")
    found = trace(model(name), pairs(), [f"{layers}.{site}"], positions="all", mode="noise")
    return float(found.values[0, 0])


@pytest.mark.parametrize("name", MADE_LIKE_TRANSFORMERS)
def test_all_edges_cut_from_a_head_or_an_mlp_are_that_head_or_mlp_patched(name: str):
    runs = edge_runs(model(name), pairs())
    assert without(runs, writer="a0.h3") == pytest.approx(patched(name, "0.attn.head.3"), abs=2e-5)
    mlp = runs.stream.layers[0].mlp or ""
    here = patched(name, f"0.{mlp.rpartition('.')[2]}")
    assert without(runs, writer="m0") == pytest.approx(here, abs=2e-5)
    assert abs(here - runs.clean) > 1e-4


@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_all_edges_cut_into_queries_keys_or_values_are_those_patched(name: str, part: str):
    runs = edge_runs(model(name), pairs())
    shared = name == "llama" and part != "q"
    reader = f"a1.h2-3<{part}>" if shared else f"a1.h2<{part}>"
    there = patched(name, f"1.attn.head.2.{part}")
    assert without(runs, reader=reader) == pytest.approx(there, abs=2e-5)


def test_no_cut_is_the_clean_run_to_the_bit_and_all_cut_the_corrupt_one():
    runs = edge_runs(model(), pairs())
    assert runs.faithfulness(runs.stream.edges.exist) == 1
    none = np.zeros_like(runs.stream.edges.exist)
    assert runs.faithfulness(none) == pytest.approx(0, abs=1e-4)


def test_a_parallel_mlp_does_not_read_its_own_layers_heads():
    for name, reads in (("llama", True), ("gpt_neox", False)):
        edges = edge_runs(model(name), pairs()).stream.edges
        assert ("a0.h1->m0" in edges.names(edges.exist)) is reads


BAD = {
    "gemma3": "several parts beside attention that write",
    "bloom": "changes what its heads' projection gives",
    "bert": "shows z at no projection",
}


@pytest.mark.parametrize("name", BAD)
def test_a_stream_that_is_no_sum_of_heads_and_mlps_is_refused(name: str):
    with pytest.raises(InvalidInput, match=BAD[name]):
        edge_runs(model(name), pairs())


def test_an_operation_between_layers_is_found_by_numbers():
    tiny = model()
    layer = tiny.module.get_submodule("model.layers.1")
    handle = layer.register_forward_pre_hook(lambda m, args: (args[0] * 1.01, *args[1:]))
    try:
        with pytest.raises(InvalidInput, match="does not read the sum of the embedding"):
            edge_runs(tiny, pairs())
    finally:
        handle.remove()


def hooks_of(tiny: LoadedModel) -> list[list[int]]:
    """The numbers of all hooks of each module."""
    return [[*m._forward_hooks, *m._forward_pre_hooks] for m in tiny.module.modules()]


def test_a_model_is_left_as_it_was_whatever_ended_a_pass():
    tiny = model()
    runs = edge_runs(tiny, pairs())
    with torch.no_grad():
        before = tiny.module(pairs().clean).logits
    hooks = hooks_of(tiny)  # transformers may have some of its own
    broken = replace(runs, donor=runs.donor[:, :, :3])  # of texts of another length
    with pytest.raises(RuntimeError):
        broken.value(np.zeros_like(runs.stream.edges.exist))
    assert hooks_of(tiny) == hooks
    with torch.no_grad():
        torch.testing.assert_close(tiny.module(pairs().clean).logits, before, rtol=0, atol=0)
