"""A graph as one page: layers from bottom to top, links as curves, with nothing to fetch."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from isogloss.models.circuits.curve import CircuitCurve
from isogloss.models.circuits.graph import CircuitNode, Graph, Link
from isogloss.models.pages.page import page, readable, svg

_WIDE, _HIGH, _ACROSS, _UP, _LEFT, _TOP = 92, 24, 104, 74, 70, 24
_PLOT_WIDE, _PLOT_HIGH = 420, 180
_PARTS_AT = {"q": -26, "k": 0, "v": 26}  # where links for queries, keys and values end

_MOST_LINKS = 300
"""Links of a page at most: of thousands nothing is seen but their colour."""

_STYLE = """
svg .node { fill: var(--paper); stroke: var(--faint); stroke-width: 1.2; rx: 5 }
svg .node.end { stroke-dasharray: 4 2 }
svg g.part:hover .node { stroke: var(--mark); stroke-width: 2 }
svg text.node-name { text-anchor: middle; font-size: 11px }
svg text.layer { fill: var(--faint) }
svg path.link { fill: none }
svg path.more { stroke: var(--more); fill: none } svg path.less { stroke: var(--less); fill: none }
svg path.link:hover { stroke: var(--mark); stroke-opacity: 1 }
svg polyline { fill: none; stroke-width: 2 }
svg .own { stroke: var(--more) } svg .gone { stroke: var(--faint); stroke-dasharray: 5 3 }
svg circle.null { fill: var(--less); fill-opacity: .5 }
"""


def circuit_page(graph: Graph, curve: CircuitCurve | None = None) -> str:
    """Draw a graph as an HTML page that stands alone: no script, nothing to fetch.

    Args:
        graph: such as :meth:`isogloss.models.Circuit.graph` gives it.
        curve: drawn below it.

    Returns:
        The page: blue links go with what the model says, red ones against it, the stronger the
        wider; hover texts name ends and effects. Of a graph of more than 300 links the strongest
        300 are drawn with what they join, and the page says so.
    """
    drawn = _strongest(graph)
    body = circuit_svg(drawn)
    if curve is not None:
        body += (
            "\n<h2>Circuits of growing size</h2>\n<p>Solid: share of what the model says that the "
            "circuit says by itself. Dashed: share that is gone without it. Red dots: random "
            "circuits of as many edges.</p>\n" + curve_svg(curve)
        )
    text = "".join(graph.tokens)
    parts = any(link.part for link in drawn.links)
    ends = "; links end at a head's left, middle and right for q, k and v" if parts else ""
    kept, every = len(drawn.links), len(graph.links)
    cut = f"Drawn are the strongest {kept:,} of {every:,} links. " if kept < every else ""
    said = (
        f"{graph.facts}{'. ' if graph.facts else ''}{cut}Layers go up. A link is what its lower "
        f"end does to the upper one: blue for it, red against it, the wider the more{ends}. "
        f"The first text: {text}"
    )
    return page(f"Circuit of {graph.model}", said, body, _STYLE)


def _strongest(graph: Graph) -> Graph:
    """Return a graph with no more links than can be seen, and the nodes at their ends."""
    if len(graph.links) <= _MOST_LINKS:
        return graph
    links = sorted(graph.links, key=lambda link: -abs(link.weight))[:_MOST_LINKS]
    ends = {end for link in links for end in (link.source, link.target)}
    nodes = (one for one in graph.nodes if one.name in ends or one.kind in ("embedding", "logit"))
    return replace(graph, nodes=tuple(nodes), links=tuple(links))


def circuit_svg(graph: Graph) -> str:
    """Draw a graph.

    Args:
        graph: nodes and links.

    Returns:
        An ``<svg>`` element. It takes its colours from the page's style sheet.
    """
    rows: dict[tuple[int, bool], list[CircuitNode]] = {}
    for node in sorted(graph.nodes, key=lambda node: (node.place, node.name)):
        rows.setdefault((node.layer, node.kind == "mlp"), []).append(node)  # MLPs above heads
    wide = [row for row in rows.values() if not _is_end(row)]
    starts = _starts(wide)
    widest = max(1, sum(width for _, width in starts.values()))
    names = {layer: escape(_layer_name(row, graph.sites)) for layer, row in rows.items()}
    left = max(_LEFT, 12 + 6.2 * max(map(len, names.values()), default=0))
    width, height = round(left + widest * _ACROSS) + 20, _TOP + len(rows) * _UP
    at: dict[str, tuple[float, float]] = {}
    parts: list[str] = []
    for number, (layer, row) in enumerate(sorted(rows.items())):
        y = height - 40.0 - number * _UP
        parts.append(f'<text class="layer" x="4" y="{y + 4:.0f}">{names[layer]}</text>')
        columns = [(widest - 1) / 2] if _is_end(row) else _columns(row, starts)
        for column, node in zip(columns, row, strict=True):
            at[node.name] = (left + _ACROSS * (column + 0.5), y)
    if any(row[0].kind == "feature" for row in wide):
        parts += _tokens(graph.tokens, starts, left, height - 8.0)
    most = max((abs(link.weight) for link in graph.links), default=1.0) or 1.0
    parts += [
        _curve(link, at[link.source], at[link.target], abs(link.weight) / most)
        for link in sorted(graph.links, key=lambda link: abs(link.weight))
    ]
    parts += [_drawn(node, *at[node.name]) for row in rows.values() for node in row]
    return svg("nodes of the circuit in layers, and their links", (width, height), parts)


def curve_svg(curve: CircuitCurve) -> str:
    """Draw faithfulness and completeness over the number of edges.

    Args:
        curve: of :func:`isogloss.models.circuit_curve`.

    Returns:
        An ``<svg>`` element, edges on a logarithmic axis, shares from -0.25 to 1.25.
    """
    most = math.log2(max(curve.sizes) + 1)

    def x(size: int) -> float:
        return 44 + _PLOT_WIDE * math.log2(size + 1) / most

    def y(share: float) -> float:
        return 16 + _PLOT_HIGH * (1.25 - min(max(share, -0.25), 1.25)) / 1.5

    def line(shares: tuple[float, ...]) -> str:
        return " ".join(
            f"{x(size):.1f},{y(one):.1f}" for size, one in zip(curve.sizes, shares, strict=True)
        )

    parts = [f'<rect class="frame" x="44" y="16" width="{_PLOT_WIDE}" height="{_PLOT_HIGH}"/>']
    for share in (0.0, 1.0):
        parts.append(f'<text x="36" y="{y(share) + 4:.0f}" text-anchor="end">{share:.0f}</text>')
        parts.append(f'<path class="frame" d="M44 {y(share):.1f} h{_PLOT_WIDE}"/>')
    last = -100.0
    for size in curve.sizes:
        if x(size) - last >= 28:
            last = x(size)
            parts.append(
                f'<text x="{last:.0f}" y="{30 + _PLOT_HIGH}" text-anchor="middle">{size}</text>'
            )
    middle = 44 + _PLOT_WIDE // 2
    parts.append(f'<text x="{middle}" y="{46 + _PLOT_HIGH}" text-anchor="middle">edges</text>')
    for size, some in zip(curve.sizes, curve.random, strict=True):
        parts += [
            f'<circle class="null" cx="{x(size):.1f}" cy="{y(one):.1f}" r="2.5">'
            f"<title>a random circuit of {size} edges: {one:.3f}</title></circle>"
            for one in some
        ]
    parts.append(f'<polyline class="gone" points="{line(curve.completeness)}"/>')
    parts.append(f'<polyline class="own" points="{line(curve.faithfulness)}"/>')
    return svg("faithfulness by edges", (_PLOT_WIDE + 60, _PLOT_HIGH + 54), parts)


def _is_end(row: Sequence[CircuitNode]) -> bool:
    """Whether a row is the embedding or the logits alone, which stands in the middle."""
    return len(row) == 1 and row[0].kind in ("embedding", "logit")


def _starts(rows: Sequence[Sequence[CircuitNode]]) -> dict[int, tuple[int, int]]:
    """Return for each place at which a node is its first column, and how many it has.

    Places without a node take no room; one at which several nodes of a row are takes as many.
    """
    most: Counter[int] = Counter()
    for row in rows:
        most |= Counter(node.place for node in row)
    found: dict[int, tuple[int, int]] = {}
    for place in sorted(most):
        found[place] = (sum(width for _, width in found.values()), most[place])
    return found


def _columns(row: Sequence[CircuitNode], starts: Mapping[int, tuple[int, int]]) -> list[float]:
    """Return the column of each node of a row: those of one place in the middle of its columns."""
    counts, seen = Counter(node.place for node in row), Counter[int]()
    found: list[float] = []
    for node in row:
        first, width = starts[node.place]
        found.append(first + (width - counts[node.place]) / 2 + seen[node.place])
        seen[node.place] += 1
    return found


def _tokens(
    tokens: tuple[str, ...], starts: Mapping[int, tuple[int, int]], left: float, y: float
) -> list[str]:
    """Write below the columns of each place which token that is."""
    return [
        f'<text class="layer" x="{left + _ACROSS * (first + width / 2):.0f}" y="{y:.0f}" '
        f'text-anchor="middle">{escape(readable(tokens[place]))}</text>'
        for place, (first, width) in starts.items()
        if 0 <= place < len(tokens)
    ]


def _curve(link: Link, start: tuple[float, float], end: tuple[float, float], share: float) -> str:
    """Draw a link from the top of one node to the bottom of another."""
    x, to_x = start[0], end[0] + _PARTS_AT.get(link.part, 0)
    y, to_y = start[1] - _HIGH / 2, end[1] + _HIGH / 2
    middle = (y + to_y) / 2
    side, part = "more" if link.weight >= 0 else "less", f" ({link.part})" if link.part else ""
    said = escape(f"{link.source} to {link.target}{part}: {link.weight:.4g}")
    return (
        f'<path class="link {side}" d="M{x:.0f} {y:.0f} C{x:.0f} {middle:.0f} {to_x:.0f} '
        f'{middle:.0f} {to_x:.0f} {to_y:.0f}" stroke-width="{0.8 + 5 * share:.1f}" '
        f'stroke-opacity="{0.25 + 0.65 * share:.2f}"><title>{said}</title></path>'
    )


def _drawn(node: CircuitNode, x: float, y: float) -> str:
    label = node.label or node.name
    name, shown = escape(label), escape(label if len(label) <= 14 else f"{label[:13]}…")
    end = " end" if node.kind in ("embedding", "logit") else ""
    value = "" if node.value is None else f", {node.value:.4g}"
    return (
        f'<g class="part"><rect class="node{end}" x="{x - _WIDE / 2:.0f}" y="{y - _HIGH / 2:.0f}" '
        f'width="{_WIDE}" height="{_HIGH}" rx="5"/>'
        f'<text class="node-name" x="{x:.0f}" y="{y + 4:.0f}">{shown}</text>'
        f"<title>{escape(node.kind)} {name}{value}</title></g>"
    )


def _layer_name(row: Sequence[CircuitNode], sites: Sequence[str]) -> str:
    layer = row[0].layer
    if layer < 0:
        return "text"
    if row[0].kind == "logit":
        return "output"
    return sites[layer] if layer < len(sites) else f"layer {layer}"
