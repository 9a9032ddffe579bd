"""Graphs as circuit-tracer's JSON, which its own and Neuronpedia's viewers show: out and in."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from isogloss.errors import CorruptData, InvalidInput
from isogloss.models.circuits.graph import CircuitNode, Graph, Link

_KINDS = {"feature": "cross layer transcoder", "error": "mlp reconstruction error"}
_NAMES = {shown: kind for kind, shown in _KINDS.items()}
_EMBEDDING = "E"
_NUMBERED = ("feature", "error", "logit")
_MOST_BYTES = 1 << 28


def to_tracer(graph: Graph, *, slug: str = "circuit") -> dict[str, object]:
    """Return a graph in the form of circuit-tracer's graph files (schema version 1).

    Nodes are features, errors, tokens and logits there; heads and MLPs keep their kind's name, and
    what a head reads for (``q``, ``k``, ``v``) stands in a field ``part`` of the link.

    Args:
        graph: to write.
        slug: name of the graph in a viewer.
    """
    last = max((node.layer for node in graph.nodes), default=0)
    nodes = [
        {
            "node_id": node.name,
            "feature": _number(node),
            "layer": _EMBEDDING if node.layer < 0 else str(node.layer),
            "ctx_idx": min(max(node.place, 0), max(len(graph.tokens) - 1, 0))
            if node.kind in ("feature", "error", "embedding", "logit")
            else 0,
            "feature_type": _KINDS.get(node.kind, node.kind),
            "token_prob": (node.value or 0.0) if node.kind == "logit" else 0.0,
            "is_target_logit": node.kind == "logit" and node.layer == last,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": node.name,
            "clerp": node.label,
            "influence": None,
            "activation": None if node.kind == "logit" else node.value,
        }
        for node in graph.nodes
    ]
    links = [
        {"source": link.source, "target": link.target, "weight": link.weight}
        | ({"part": link.part} if link.part else {})
        for link in graph.links
    ]
    return {
        "metadata": {
            "slug": slug,
            "scan": graph.model,
            "transcoder_list": [],
            "prompt_tokens": list(graph.tokens),
            "prompt": "".join(graph.tokens),
            "node_threshold": None,
            "schema_version": 1,
            "info": graph.facts,
            "sites": list(graph.sites),
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": links,
    }


def _number(node: CircuitNode) -> int:
    if node.feature is not None:
        return node.feature
    return -1 if node.kind in _NUMBERED else node.place


def from_tracer(found: Mapping[str, object]) -> Graph:
    """Return the graph of a parsed graph file of circuit-tracer.

    Args:
        found: the object that the file holds.

    Raises:
        CorruptData: a part is missing, or of another type than it should be.
    """
    metadata = _object(found.get("metadata"), "metadata")
    nodes = [_node(_object(one, "a node")) for one in _list(found, "nodes")]
    links = [_link(_object(one, "a link")) for one in _list(found, "links")]
    try:
        return Graph(
            model=_text(metadata, "scan"),
            tokens=tuple(str(token) for token in _list(metadata, "prompt_tokens")),
            nodes=tuple(nodes),
            links=tuple(links),
            facts=str(metadata.get("info") or ""),
            sites=tuple(map(str, _list(metadata, "sites"))) if metadata.get("sites") else (),
        )
    except InvalidInput as error:
        raise CorruptData(f"the graph file does not hold together: {error}") from error


def write_graph(graph: Graph, path: str | Path, *, slug: str | None = None) -> Path:
    """Write a graph as a graph file of circuit-tracer.

    Args:
        graph: to write.
        path: of the file.
        slug: name of the graph in a viewer; None: the file's.

    Raises:
        InvalidInput: the file cannot be written.
    """
    path = Path(path)
    text = json.dumps(to_tracer(graph, slug=slug or path.stem), indent=1, allow_nan=False)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written ({error}): choose another file") from error
    return path


def read_graph(path: str | Path) -> Graph:
    """Read a graph file of circuit-tracer.

    Args:
        path: of the file.

    Raises:
        InvalidInput: it cannot be read, or is larger than 256 MB.
        CorruptData: it holds no such graph.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InvalidInput(
                f"{path} has {size:,} bytes; graphs of up to {_MOST_BYTES:,} are read"
            )
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error}): name another file") from error
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path} is no JSON ({error}): export the graph again") from error
    return from_tracer(_object(found, "the file"))


def _node(found: Mapping[str, object]) -> CircuitNode:
    kind = _text(found, "feature_type")
    kind = _NAMES.get(kind, kind)
    layer, place, feature = found.get("layer"), _whole(found, "ctx_idx"), found.get("feature")
    if kind == "attention head":
        place = _whole(found, "feature")
    if kind not in _NUMBERED or (kind != "error" and feature == -1):
        feature = None
    value = found.get("token_prob") or None if kind == "logit" else found.get("activation")
    return CircuitNode(
        name=_text(found, "node_id"),
        kind=kind,
        layer=-1 if layer == _EMBEDDING else _layer(layer),
        place=place,
        feature=feature if isinstance(feature, int) else None,
        label=str(found.get("clerp") or ""),
        value=_finite(value),
    )


def _link(found: Mapping[str, object]) -> Link:
    weight = _finite(found.get("weight"))
    if weight is None:
        raise CorruptData(f"a link has weight {found.get('weight')!r:.40}; wanted a finite number")
    return Link(
        source=_text(found, "source"),
        target=_text(found, "target"),
        weight=weight,
        part=str(found.get("part") or ""),
    )


def _finite(found: object) -> float | None:
    """Return a number; None for what is none, or none that a float can hold."""
    try:
        value = float(found) if isinstance(found, int | float) else math.nan
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _object(found: object, what: str) -> Mapping[str, object]:
    if not isinstance(found, Mapping):
        raise CorruptData(f"{what} of the graph file is {type(found).__name__}; wanted an object")
    return cast("Mapping[str, object]", found)


def _list(found: Mapping[str, object], name: str) -> list[object]:
    value = found.get(name)
    if not isinstance(value, list):
        raise CorruptData(f"{name} of the graph file is {type(value).__name__}; wanted a list")
    return cast("list[object]", value)


def _text(found: Mapping[str, object], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise CorruptData(f"{name} in the graph file is {value!r:.40}; wanted text")
    return value


def _whole(found: Mapping[str, object], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CorruptData(f"{name} in the graph file is {value!r:.40}; wanted a whole number")
    return value


def _layer(found: object) -> int:
    try:
        return int(str(found))
    except ValueError as error:
        raise CorruptData(
            f"layer is {found!r:.40} in the graph file; wanted a number or E"
        ) from error
