"""A planted circuit is found, whole and alone."""

from dataclasses import replace

import pytest
from tests.models.circuits.planted import planted, texts
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models.circuits.circuit import fewest, find_circuit
from isogloss.models.circuits.scores import score_edges


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_circuit_is_found_whole_and_alone(seed: int):
    tiny, known, renamed = planted(seed)
    scores = score_edges(tiny, texts(renamed, seed=seed), steps=10)
    found = find_circuit(tiny, texts(renamed, seed=100 + seed), scores, faithfulness=0.95)
    assert set(found.names) == set(known)
    assert found.faithfulness == pytest.approx(1, abs=0.05)
    assert found.completeness == pytest.approx(1, abs=0.05)
    graph = found.graph()
    ends = {end.partition("<")[0] for name in known for end in name.split("->")}
    assert {node.name for node in graph.nodes} == ends
    assert len(graph.links) == len(known)
    assert "8 of 262 edges" in graph.facts


def test_a_circuit_of_all_edges_is_taken_where_fewer_are_not_faithful():
    scores = score_edges(model(), pairs())
    found = find_circuit(model(), pairs(), scores, faithfulness=1.0)
    assert found.faithfulness == 1
    assert len(found) > 60


def test_a_circuit_of_heads_that_share_keys_links_to_each_that_is_in_it():
    scores = score_edges(model(), pairs())
    graph = find_circuit(model(), pairs(), scores, faithfulness=1.0).graph()
    shared = [one.target for one in graph.links if (one.source, one.part) == ("m0", "k")]
    assert shared == ["a1.h0", "a1.h1", "a1.h2", "a1.h3"]


def test_where_links_are_not_as_many_as_edges_both_are_said_with_the_reason():
    scores = score_edges(model(), pairs())
    found = find_circuit(model(), pairs(), scores, faithfulness=1.0)
    graph = found.graph()
    assert len(graph.links) > len(found)
    said = f"{len(found):,} of {len(found.edges):,} edges, drawn as {len(graph.links):,} links"
    assert graph.facts.startswith(f"{said} (each head that shares keys or values has its own); ")
    alone = model("gpt2")  # heads of this one share nothing
    found = find_circuit(alone, pairs(), score_edges(alone, pairs()), faithfulness=1.0)
    assert len(found.graph().links) == len(found)
    assert found.graph().facts.startswith(f"{len(found):,} of {len(found.edges):,} edges; ")


def test_the_fewest_are_found_by_doubling_and_halving():
    for wanted in (1, 2, 7, 64, 99, 100):
        asked: list[int] = []
        assert fewest(lambda n, w=wanted, a=asked: a.append(n) is None and n >= w, 100) == wanted
        assert len(asked) <= 14
    assert fewest(lambda n: False, 100) == 100


def test_other_models_scores_and_shares_that_are_none_are_refused():
    scores = score_edges(model(), pairs())
    with pytest.raises(InvalidInput, match="score its own"):
        find_circuit(model("gpt2"), pairs(), scores)
    for share in (0.0, 1.5):
        with pytest.raises(InvalidInput, match="faithfulness is"):
            find_circuit(model(), pairs(), scores, faithfulness=share)


def test_texts_beyond_the_context_are_refused_before_any_pass():
    tiny = model("gpt2")
    scores = score_edges(tiny, pairs())
    long = pairs().clean.repeat(1, 10)
    with pytest.raises(InvalidInput, match="60 tokens, the model reads 32"):
        find_circuit(tiny, replace(pairs(), clean=long, corrupt=long + 1), scores)
