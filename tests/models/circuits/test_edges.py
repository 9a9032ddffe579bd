"""Names of edges, and which lie on a path."""

import numpy as np
import pytest
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models.circuits.edges import Edges
from isogloss.models.circuits.runs import edge_runs


def edges() -> Edges:
    return edge_runs(model(), pairs()).stream.edges


def test_names_of_edges_go_both_ways():
    some = edges()
    names = ("input->a0.h1<q>", "a0.h3->a1.h0-1<k>", "a0.h3->m0", "m1->logits")
    assert set(some.names(some.named(list(names)))) == set(names)
    assert len(some) == len(some.names(some.exist)) == 82


@pytest.mark.parametrize("name", ["a1.h0->a0.h1<q>", "input->a0.h9<q>", "a0.h1->a1.h0<k>", "x"])
def test_an_edge_that_there_is_not_is_refused(name: str):
    with pytest.raises(InvalidInput, match="edges are written like input->"):
        edges().named([name])


def test_what_is_on_no_path_from_the_embedding_to_the_logits_is_left_out():
    some = edges()
    path = ["input->a0.h0-1<v>", "a0.h1->a1.h0-1<k>", "a1.h1->logits"]
    dead = ["a0.h2->a1.h1<q>", "input->m0", "a1.h3->m1", "m1->logits"]
    assert set(some.names(some.live(some.named([*path, *dead])))) == set(path)
    assert not np.any(some.live(some.named(dead)))


def test_edges_of_other_sizes_than_writers_by_readers_are_refused():
    some = edges()
    with pytest.raises(InvalidInput, match="writers by readers"):
        Edges(writers=some.writers, readers=some.readers, exist=some.exist.T.copy())
