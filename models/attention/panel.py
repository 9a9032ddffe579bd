"""Attention patterns as one page: heads side by side, drawn as SVG, with nothing to fetch."""

from html import escape

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.models.attention.patterns import AttentionPatterns, Head
from isogloss.models.pages.page import page, readable, svg

_CELL, _TITLE, _CHARACTER = 14, 22, 6.2
_MOST_TOKENS = 512
_LEAST_SHOWN = 0.005  # of a query's attention: lighter cells are not drawn
_STYLE = ".heads { display: flex; flex-wrap: wrap; gap: 20px }"


def attention_page(patterns: AttentionPatterns) -> str:
    """Draw patterns as an HTML page that stands alone: no script, nothing to fetch.

    Args:
        patterns: of :func:`isogloss.models.attention_patterns`.

    Returns:
        The page. A cell's hover text names query, key and share; lighter cells than 0.5 % of a
        query's attention are left blank.

    Raises:
        InvalidInput: the text has more than 512 tokens: a browser would not show as many cells.
    """
    if (length := len(patterns.tokens)) > _MOST_TOKENS:
        raise InvalidInput(
            f"the text has {length} tokens, up to {_MOST_TOKENS} are drawn: give a shorter one"
        )
    drawn = "\n".join(
        attention_svg(patterns.tokens, values, head)
        for head, values in zip(patterns.heads, patterns.values, strict=True)
    )
    return page(
        f"Attention of {patterns.model}",
        "Each row is a query token, each column a key token; the darker a cell, the more of the "
        "query's attention goes to that key. Point at a cell for its share.",
        f'<div class="heads">\n{drawn}\n</div>',
        _STYLE,
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
            f'<rect class="cell more" x="{left + j * _CELL}" y="{top + i * _CELL}" width="{_CELL}" '
            f'height="{_CELL}" fill-opacity="{share:.3f}">'
            f"<title>{i} {names[i]} looks at {j} {names[j]}: {share:.1%}</title></rect>"
        )
    size = (left + side + longest // 2, top + side + 4)
    return svg(f"pattern of layer {head.layer}, head {head.head}", size, parts)
