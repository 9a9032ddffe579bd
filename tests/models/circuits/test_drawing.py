"""A graph as a page."""

import re
from dataclasses import replace

from tests.models.patching.tiny import model, pairs

from isogloss.models.circuits.circuit import find_circuit
from isogloss.models.circuits.curve import CircuitCurve
from isogloss.models.circuits.drawing import circuit_page
from isogloss.models.circuits.graph import CircuitNode, Graph, Link
from isogloss.models.circuits.scores import score_edges

CURVE = CircuitCurve(
    sizes=(2, 8),
    faithfulness=(0.5, 1.0),
    completeness=(0.25, 0.75),
    random=((0.0, 3.0), (0.1, 0.2)),
)


def test_every_node_and_link_is_drawn_and_names_itself():
    scores = score_edges(model(), pairs())
    graph = find_circuit(model(), pairs(), scores).graph()
    page = circuit_page(graph, CURVE)
    assert page.count("<g class=") == len(graph.nodes)
    titles = re.findall(r"<title>(\S+) to (\S+)(?: \((\w)\))?: (\S+)</title>", page)
    assert len(titles) == len(graph.links)
    drawn = {(source, target, part) for source, target, part, _ in titles}
    assert drawn == {(one.source, one.target, one.part) for one in graph.links}
    assert page.count('class="link less"') == sum(one.weight < 0 for one in graph.links)
    assert not re.search(r"(src|href)=|url\(|<script", page)


def test_features_of_a_token_stand_above_it_and_rows_are_named_by_their_sites():
    def feature(site: int, number: int, place: int) -> CircuitNode:
        return CircuitNode(name=f"{site}_{number}_{place}", kind="feature", layer=site, place=place)

    nodes = (
        *(feature(0, number, 1) for number in (7, 8)), feature(1, 3, 1), feature(1, 4, 9),
        CircuitNode(name="logits", kind="logit", layer=2, place=9),
    )  # fmt: skip
    sites = ("model.layers.5", "<i>")
    page = circuit_page(
        Graph(model="a", tokens=tuple("abcdefghij"), nodes=nodes, links=(), sites=sites)
    )
    found = re.findall(r'<text class="node-name" x="(\d+)" y="(\d+)">(\w+)<', page)
    at = {name: (int(x), int(y)) for x, y, name in found}
    below = {
        name: int(x)
        for x, name in re.findall(r'x="(\d+)" y="\d+" text-anchor="middle">(\w)<', page)
    }
    assert below.keys() == {"b", "j"}  # tokens without a feature take no room
    assert at["1_3_1"][0] == below["b"] == (at["0_7_1"][0] + at["0_8_1"][0]) // 2
    assert at["1_4_9"][0] == below["j"]
    assert at["logits"][1] < at["1_3_1"][1] < at["0_7_1"][1]
    assert ">model.layers.5</text>" in page
    assert ">&lt;i&gt;</text>" in page
    assert "layer 0" not in page
    assert "left, middle and right" not in page


def test_links_go_up_and_random_circuits_outside_the_frame_stay_in_it():
    nodes = tuple(CircuitNode(name=f"n{i}", kind="mlp", layer=i, label="<b>") for i in range(2))
    link = Link(source="n0", target="n1", weight=1.0)
    page = circuit_page(Graph(model="a", tokens=("<x>",), nodes=nodes, links=(link,)), CURVE)
    found = re.search(r'd="M\d+ (\d+) C.* (\d+)" stroke', page)
    assert found is not None
    assert int(found[1]) > int(found[2])
    assert all(16 <= float(y) <= 196 for y in re.findall(r'cy="([\d.]+)"', page))
    assert "<b>" not in page
    assert "<x>" not in page


def test_of_more_links_than_can_be_seen_the_strongest_are_drawn_which_is_said():
    ends = [CircuitNode(name="input", kind="embedding", layer=-1)]
    heads = [CircuitNode(name=f"h{i}", kind="attention head", layer=i % 4) for i in range(400)]
    links = [Link(source="input", target=f"h{i}", weight=(-1) ** i * i / 400) for i in range(400)]
    graph = Graph(model="m", tokens=("a",), nodes=(*ends, *heads), links=tuple(links), facts="F")
    page = circuit_page(graph)
    assert "F. Drawn are the strongest 300 of 400 links. Layers" in page
    assert set(re.findall(r"input to (h\d+):", page)) == {f"h{i}" for i in range(100, 400)}
    assert page.count("<g class=") == 301
    few = circuit_page(replace(graph, links=graph.links[:300]))
    assert "Drawn are" not in few
    assert few.count("<g class=") == 401
