"""Attention patterns as one page: heads side by side, drawn as SVG, with nothing to fetch."""

from html import escape

import numpy as np
from numpy.typing import NDArray

from isogloss.models.attention.patterns import AttentionPatterns, Head

_CELL, _TITLE, _CHARACTER = 14, 22, 6.2
_MOST_CHARACTERS = 12
_LEAST_SHOWN = 0.005  # of a query's attention: lighter cells are not drawn
_WHITE = {"\n": "⏎", "\t": "⇥", " ": "·", "Ġ": "·", "Ċ": "⏎", "▁": "·"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --cell: #0b57a4; --line: #d5dae0 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --paper: #14171b; --cell: #6db3f8; --line: #3a424d }
}
body { margin: 24px; background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif }
h1 { font-size: 18px; margin: 0 0 4px } p { margin: 0 0 16px; max-width: 70ch }
.heads { display: flex; flex-wrap: wrap; gap: 20px }
svg { background: var(--paper) }
svg text { fill: var(--ink); font: 10px ui-monospace, monospace }
svg text.title { font: 600 12px system-ui, sans-serif }
svg .frame { fill: none; stroke: var(--line) }
svg .cell { fill: var(--cell) }
svg .cell:hover { stroke: #d9480f; stroke-width: 2; fill-opacity: 1 }
"""  # noqa: E501 - a style sheet


def attention_page(patterns: AttentionPatterns) -> str:
    """Draw patterns as an HTML page that stands alone: no script, nothing to fetch.

    Args:
        patterns: of :func:`isogloss.models.attention_patterns`.

    Returns:
        The page. A cell's hover text names query, key and share; lighter cells than 0.5 % of a
        query's attention are left blank.
    """
    drawn = "\n".join(
        attention_svg(patterns.tokens, values, head)
        for head, values in zip(patterns.heads, patterns.values, strict=True)
    )
    title = f"Attention of {escape(patterns.model)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
        "<p>Each row is a query token, each column a key token; the darker a cell, the more of the "
        "query's attention goes to that key. Point at a cell for its share.</p>\n"
        f'<div class="heads">\n{drawn}\n</div>\n</body></html>\n'
    )


def attention_svg(tokens: tuple[str, ...], values: NDArray[np.float32], head: Head) -> str:
    """Draw the pattern of one head.

    Args:
        tokens: of the text.
        values: ``[queries, keys]``.
        head: whose it is.

    Returns:
        An ``<svg>`` element. It takes its colours from the page's style sheet.
    """
    names = [escape(readable(token)) for token in tokens]
    longest = round(_CHARACTER * max(len(readable(token)) for token in tokens)) + 8
    side, left, top = _CELL * len(tokens), longest, longest + _TITLE
    parts = [
        f'<text class="title" x="0" y="14">layer {head.layer}, head {head.head}</text>',
        f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>',
    ]
    for i, name in enumerate(names):
        along = i * _CELL + _CELL - 4
        parts.append(f'<text x="{left - 4}" y="{top + along}" text-anchor="end">{name}</text>')
        x, y = left + along, top - 4
        parts.append(f'<text transform="translate({x} {y}) rotate(-60)">{name}</text>')
    for i, j in np.argwhere(values >= _LEAST_SHOWN).tolist():
        share = float(values[i, j])
        parts.append(
            f'<rect class="cell" x="{left + j * _CELL}" y="{top + i * _CELL}" width="{_CELL}" '
            f'height="{_CELL}" fill-opacity="{share:.3f}">'
            f"<title>{i} {names[i]} looks at {j} {names[j]}: {share:.1%}</title></rect>"
        )
    width, height = left + side + longest // 2, top + side + 4
    label = f"pattern of layer {head.layer}, head {head.head}"
    inside = "\n".join(parts)
    return (
        f'<svg role="img" aria-label="{label}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">\n{inside}\n</svg>'
    )


def readable(token: str) -> str:
    """Return a token as a label: white space is shown, and what is long is cut.

    Args:
        token: as the text or the vocabulary has it.
    """
    shown = "".join(_WHITE.get(one, one if one.isprintable() else "�") for one in token)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 1]}…"
