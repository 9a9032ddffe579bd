"""A graph of what causes what: nodes in layers, and weighted links that go up."""

from collections import Counter
from dataclasses import dataclass

from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitNode:
    """A part of a model: a head, an MLP, a feature, a token, an output."""

    name: str
    """Of its own in the graph."""
    kind: str
    """``embedding``, ``attention head``, ``mlp``, ``feature``, ``error``, ``logit``, or what a
    file says."""
    layer: int
    """From 0; -1: the embedding; of the logits one above the last."""
    place: int = 0
    """Where it stands within its layer: number of the head, or the token's position."""
    feature: int | None = None
    """Its number in its dictionary; of an output the token's id."""
    label: str = ""
    """What people read."""
    value: float | None = None
    """Its activation, or of an output its probability."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What one node does to another."""

    source: str
    """Name of the node below."""
    target: str
    """Name of the node above."""
    weight: float
    """The effect; above 0: for it."""
    part: str = ""
    """Of a head what is changed: ``q``, ``k`` or ``v``."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes and links, as they are drawn and written."""

    model: str
    """Name of the model."""
    tokens: tuple[str, ...]
    """Of the text."""
    nodes: tuple[CircuitNode, ...]
    """In any order; each name once."""
    links: tuple[Link, ...]
    """Between them."""
    facts: str = ""
    """What was measured of it, a sentence for people."""
    sites: tuple[str, ...] = ()
    """Where the nodes of each layer are, where layers are not the model's own."""

    def __post_init__(self) -> None:
        names = Counter(node.name for node in self.nodes)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise InvalidInput(f"nodes {twice[:4]} stand twice in the graph; name each once")
        ends = {end for link in self.links for end in (link.source, link.target)}
        if lost := sorted(ends - set(names)):
            raise InvalidInput(f"links name nodes {lost[:4]} that the graph does not have")
