"""Graph files of circuit-tracer."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models.patching.tiny import model, pairs

from isogloss.errors import CorruptData, InvalidInput
from isogloss.models.circuits.circuit import find_circuit
from isogloss.models.circuits.graph import CircuitNode, Graph, Link
from isogloss.models.circuits.scores import score_edges
from isogloss.models.circuits.tracer_json import from_tracer, read_graph, to_tracer, write_graph

THEIRS: dict[str, Any] = {
    "metadata": {
        "slug": "two", "scan": "gemma-2-2b", "transcoder_list": [], "prompt_tokens": ["<bos>", "a"],
        "prompt": "a", "node_threshold": 0.8, "schema_version": 1,
    },
    "qParams": {
        "pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": "",
    },
    "nodes": [
        {"node_id": "E_5_1", "feature": 1, "layer": "E", "ctx_idx": 1, "feature_type": "embedding",
         "token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0,
         "jsNodeId": "E_5-1", "clerp": "", "influence": 0.1, "activation": None},
        {"node_id": "3_77_1", "feature": 3317, "layer": "3", "ctx_idx": 1,
         "feature_type": "cross layer transcoder", "jsNodeId": "3_77-0", "clerp": "",
         "influence": 0.4, "activation": 2.5},
        {"node_id": "27_9_1", "feature": 9, "layer": "27", "ctx_idx": 1, "feature_type": "logit",
         "token_prob": 0.25, "is_target_logit": True, "jsNodeId": "L_9-1", "clerp": "Output"},
    ],
    "links": [
        {"source": "E_5_1", "target": "3_77_1", "weight": 1.5},
        {"source": "3_77_1", "target": "27_9_1", "weight": -0.5},
    ],
}  # fmt: skip
"""As version 0.1 of circuit-tracer writes them."""


def test_a_graph_of_circuit_tracer_is_read():
    found = from_tracer(THEIRS)
    assert [(node.kind, node.layer, node.place) for node in found.nodes] == [
        ("embedding", -1, 1), ("feature", 3, 1), ("logit", 27, 1),
    ]  # fmt: skip
    assert [node.value for node in found.nodes] == [None, 2.5, 0.25]
    assert found.links[1] == Link(source="3_77_1", target="27_9_1", weight=-0.5)
    assert (found.model, found.tokens) == ("gemma-2-2b", ("<bos>", "a"))
    again: Any = to_tracer(found)
    for ours, theirs in zip(again["nodes"], THEIRS["nodes"], strict=True):
        kept = ("node_id", "feature", "layer", "ctx_idx", "feature_type")
        assert [ours[name] for name in kept] == [theirs[name] for name in kept]
    assert again["links"] == THEIRS["links"]


def test_a_circuit_comes_back_as_it_was_written(tmp_path: Path):
    scores = score_edges(model(), pairs())
    graph = find_circuit(model(), pairs(), scores).graph()
    assert read_graph(write_graph(graph, tmp_path / "one.json")) == graph
    written = json.loads((tmp_path / "one.json").read_text())
    assert written["metadata"]["slug"] == "one"
    required = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId"}
    assert all(
        required <= set(node) and isinstance(node["layer"], str) for node in written["nodes"]
    )
    assert all({"source", "target", "weight"} <= set(link) for link in written["links"])


def test_features_and_errors_come_back(tmp_path: Path):
    nodes = (
        CircuitNode(
            name="4_7_1", kind="feature", layer=4, place=1, feature=7, label="cats", value=0.5
        ),
        CircuitNode(name="4_-1_1", kind="error", layer=4, place=1, feature=-1),
    )
    graph = Graph(model="tiny", tokens=("a", "b"), nodes=nodes, links=(), facts="so it is")
    assert read_graph(write_graph(graph, tmp_path / "two.json")) == graph


BAD: list[tuple[str, Any, str]] = [
    ("nodes", "all", "nodes of the graph file is str"),
    ("nodes", [3], "a node of the graph file is int"),
    ("nodes", [{**THEIRS["nodes"][0], "layer": "x"}], "wanted a number or E"),
    ("nodes", [{**THEIRS["nodes"][0], "ctx_idx": 1.5}], "wanted a whole number"),
    ("nodes", THEIRS["nodes"][:2], "does not hold together"),
    ("links", [{"source": "E_5_1", "target": "3_77_1", "weight": float("nan")}], "finite"),
    ("links", [{"source": "E_5_1", "target": "3_77_1", "weight": 10**400}], "finite"),
    ("links", [{"source": 3, "target": "3_77_1", "weight": 1}], "wanted text"),
    ("metadata", None, "metadata of the graph file is NoneType"),
]


@pytest.mark.parametrize(("part", "value", "said"), BAD)
def test_a_file_that_holds_no_graph_is_refused(part: str, value: Any, said: str, tmp_path: Path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**THEIRS, part: value}))
    with pytest.raises(CorruptData, match=said):
        read_graph(path)


def test_what_is_no_json_and_what_is_not_there_are_refused(tmp_path: Path):
    (tmp_path / "x.json").write_bytes(b"\xff{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("x.json", "deep.json"):
        with pytest.raises(CorruptData, match="is no JSON"):
            read_graph(tmp_path / name)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_graph(tmp_path / "none.json")
    graph = from_tracer(THEIRS)
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_graph(graph, tmp_path / "no" / "such.json")
