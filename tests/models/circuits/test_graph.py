"""Graphs hold together."""

import pytest

from isogloss.errors import InvalidInput
from isogloss.models.circuits.graph import CircuitNode, Graph, Link


def test_a_node_twice_and_a_link_to_nowhere_are_refused():
    node = CircuitNode(name="m0", kind="mlp", layer=0)
    with pytest.raises(InvalidInput, match="twice"):
        Graph(model="tiny", tokens=(), nodes=(node, node), links=())
    lost = Link(source="m0", target="m9", weight=1.0)
    with pytest.raises(InvalidInput, match="'m9'"):
        Graph(model="tiny", tokens=(), nodes=(node,), links=(lost,))
