"""The page of a replication: figures, the paper's claims, what is found here, what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from isogloss.models.pages.page import page, svg

_STYLE = """
table { border-collapse: collapse; max-width: 110ch; margin: 4px 0 16px }
td, th { text-align: left; vertical-align: top; padding: 6px 18px 6px 0; border-top: 1px solid var(--line) }
th { font-weight: 600; border-top: 0 }
td.held { color: var(--more); white-space: nowrap } td.lost { color: var(--less); white-space: nowrap }
.figures { display: flex; flex-wrap: wrap; gap: 28px; margin: 16px 0 8px; align-items: flex-start }
figure { margin: 0 } figcaption { color: var(--faint); font-size: 13px; max-width: 46ch }
svg .ray { stroke: var(--more); stroke-width: 2 } svg .edge { stroke: var(--line); stroke-width: 1 }
svg circle.tip { fill: var(--more) } svg .curve { fill: none; stroke-width: 2 }
svg .first { stroke: var(--more) } svg .second { stroke: var(--mark) } svg .third { stroke: var(--faint) }
svg circle.first { fill: var(--more) } svg circle.second { fill: var(--mark) } svg circle.third { fill: var(--faint) }
svg text.first { fill: var(--more); stroke: none } svg text.second { fill: var(--mark); stroke: none }
svg text.third { fill: var(--faint); stroke: none }
svg .grid { stroke: var(--line); stroke-width: .6; stroke-dasharray: 2 3 }
"""  # noqa: E501 - a style sheet

COLOURS = ("first", "second", "third")
"""Classes of curves, and of the texts that name them."""
_WIDE, _HIGH, _LEFT, _TOP = 340, 200, 34, 12


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a paper, and what came of it."""

    paper: str
    """What the paper says."""
    here: str
    """What was measured, with its numbers."""
    holds: bool
    """Whether that is what the paper says."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing and what it shows."""

    drawing: str
    """An ``<svg>`` element."""
    caption: str
    """A sentence, plain text."""


def replication_page(
    title: str, paper: str, figures: Sequence[Figure], claims: Sequence[Claim], differs: str
) -> str:
    """Write a replication as a page that stands alone.

    Args:
        title: of the page, plain text.
        paper: which paper, and where it shows this.
        figures: what was drawn.
        claims: of the paper.
        differs: what is otherwise here, plain text.
    """
    drawn = "\n".join(
        f"<figure>{one.drawing}<figcaption>{escape(one.caption)}</figcaption></figure>"
        for one in figures
    )
    rows = "\n".join(
        f"<tr><td>{escape(one.paper)}</td><td>{escape(one.here)}</td>"
        + ('<td class="held">✓ found</td>' if one.holds else '<td class="lost">✗ not found</td>')
        + "</tr>"
        for one in claims
    )
    held = sum(one.holds for one in claims)
    body = (
        f'<div class="figures">\n{drawn}\n</div>\n<h2>{held} of {len(claims)} claims found</h2>\n'
        f"<table><tr><th>the paper's claim</th><th>what is found here</th><th></th></tr>\n{rows}\n"
        f"</table>\n<h2>What differs</h2>\n<p>{escape(differs)}</p>"
    )
    return page(title, paper, body, _STYLE)


def curves(lines: Sequence[tuple[str, Sequence[float]]], marks: Sequence[str], below: str) -> str:
    """Draw curves between 0 and 1 over equal steps, named at their ends.

    Args:
        lines: name and values of each, three at most.
        marks: what stands below each step.
        below: what the steps are.
    """
    apart = _WIDE / max(1, len(marks) - 1)
    parts = [f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{_WIDE}" height="{_HIGH}"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _TOP + _HIGH * (1 - share)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.0f}h{_WIDE}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 3:.0f}" text-anchor="end">{share:g}</text>')
    for i, mark in enumerate(marks):
        x, y = _LEFT + i * apart, _TOP + _HIGH + 15
        parts.append(f'<text x="{x:.0f}" y="{y}" text-anchor="middle">{escape(mark)}</text>')
    middle = _LEFT + _WIDE / 2
    y = _TOP + _HIGH + 32
    parts.append(f'<text x="{middle:.0f}" y="{y}" text-anchor="middle">{escape(below)}</text>')
    last = -1.0
    coloured = zip(lines, COLOURS, strict=False)
    for (name, values), colour in sorted(coloured, key=lambda one: -one[0][1][-1]):
        places = [
            (_LEFT + i * apart, _TOP + _HIGH * (1 - min(max(value, 0.0), 1.0)))
            for i, value in enumerate(values)
        ]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="curve {colour}" points="{points}"/>')
        parts += [
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">'
            f"<title>{escape(name)} at {escape(mark)}: {value:.3f}</title></circle>"
            for (x, y), value, mark in zip(places, values, marks, strict=True)
        ]
        last = max(last + 15, places[-1][1] + 4)
        parts.append(
            f'<text class="{colour}" x="{_LEFT + _WIDE + 8}" y="{last:.0f}">{escape(name)}</text>'
        )
    longest = max(len(name) for name, _ in lines)
    return svg(below, (_LEFT + _WIDE + 20 + round(6.2 * longest), _TOP + _HIGH + 40), parts)
