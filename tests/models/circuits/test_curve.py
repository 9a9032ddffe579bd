"""Circuits of growing size beside random ones."""

from typing import Any

import numpy as np
import pytest
from tests.models.circuits.planted import planted, texts
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models.circuits.curve import circuit_curve, random_circuit
from isogloss.models.circuits.edges import Edges, EdgeWriter, StreamReader
from isogloss.models.circuits.runs import edge_runs
from isogloss.models.circuits.scores import score_edges


def test_the_planted_circuit_stands_out_from_random_ones_of_its_size():
    tiny, known, renamed = planted(1)
    scores = score_edges(tiny, texts(renamed), steps=10)
    found = circuit_curve(tiny, texts(renamed, seed=5), scores, sizes=[4, 8, 1000], count=19)
    at = found.sizes.index(len(known))
    assert found.faithfulness[at] > 0.95
    assert found.completeness[at] > 0.95
    assert found.p[at] == 0.05
    assert np.mean(found.random[at]) < 0.2
    assert found.faithfulness[-1] == 1
    assert found.sizes[-1] == 262
    assert found.to_dict()["p"] == found.p


def test_a_random_circuit_is_connected_and_of_the_size_asked_for():
    edges = edge_runs(model(), pairs()).stream.edges
    draw = np.random.default_rng(0)
    for size in (1, 10, 40, 82):
        kept = random_circuit(edges, size, draw)
        assert np.array_equal(edges.live(kept), kept)
        assert size <= kept.sum() <= size + 4  # a last path has at most five edges here


def test_a_random_circuit_of_nearly_all_edges_of_a_large_model_is_made_of_single_ones():
    layers, heads = 24, 8
    writers, readers, before = [EdgeWriter(layer=-1)], list[StreamReader](), list[int]()
    for i in range(layers):
        start = len(writers)
        for part in ("q", "k", "v"):
            readers += [StreamReader(layer=i, part=part, heads=(head,)) for head in range(heads)]
            before += [start] * heads
        writers += [EdgeWriter(layer=i, head=head) for head in range(heads)]
        readers.append(StreamReader(layer=i, part="mlp"))
        before.append(len(writers))
        writers.append(EdgeWriter(layer=i))
    readers.append(StreamReader(layer=layers, part="logits"))
    before.append(len(writers))
    exist = np.arange(len(writers))[:, None] < np.array(before)[None]
    edges = Edges(writers=tuple(writers), readers=tuple(readers), exist=exist)
    assert len(edges) > 50_000
    # paths alone draw some of these once in a million, so that they were not done in an hour
    for size in (len(edges) - 3, len(edges)):
        kept = random_circuit(edges, size, np.random.default_rng(1))
        assert np.array_equal(edges.live(kept), kept)
        assert kept.sum() == size


def test_sizes_and_counts_below_one_are_refused():
    scores = score_edges(model(), pairs())
    settings: list[dict[str, Any]] = [{"sizes": [0]}, {"sizes": []}, {"count": 0}]
    for setting in settings:
        with pytest.raises(InvalidInput, match="wanted 1 at least"):
            circuit_curve(model(), pairs(), scores, **setting)
