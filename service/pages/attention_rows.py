"""What heads look at from one token, drawn: a row for each head, a column for each token."""

from html import escape

from isogloss.service.pages.report_data import Node

_CELL, _LEFT, _TOP = 15, 46, 74
_LEAST_SHOWN = 0.005  # of a query's attention: lighter cells are not drawn


def attention_rows(found: Node, clean_tokens: tuple[str, ...]) -> str:
    """Draw the attention of some heads from one token.

    Args:
        found: ``at``, the number of the token from which they look, and ``heads``: of each its
            ``name`` and ``shares``, one number a token.
        clean_tokens: the tokens as labels, without characters that would garble the page.

    Returns:
        An ``<svg>`` element; it takes its colours from the page's style sheet.

    Raises:
        CorruptData: the numbers are not of that form.
    """
    heads, at = found.nodes("heads"), found.count("at")
    width, height = _LEFT + _CELL * len(clean_tokens) + 40, _TOP + _CELL * len(heads) + 4
    parts: list[str] = []
    for j, token in enumerate(clean_tokens):
        mark = ' class="at"' if j == at else ""
        x = _LEFT + j * _CELL + _CELL - 4
        parts.append(
            f'<text{mark} transform="translate({x} {_TOP - 5}) rotate(-60)">{escape(token)}</text>'
        )
    for i, head in enumerate(heads):
        y, name = _TOP + i * _CELL, escape(head.text("name"))
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 11}" text-anchor="end">{name}</text>')
        for j, (token, share) in enumerate(zip(clean_tokens, head.numbers("shares"), strict=False)):
            if share >= _LEAST_SHOWN:
                parts.append(
                    f'<rect x="{_LEFT + j * _CELL}" y="{y}" width="{_CELL}" height="{_CELL}" '
                    f'fill-opacity="{min(share, 1.0):.3f}"><title>head {name} looks at '
                    f"{escape(token)}: {share:.1%}</title></rect>"
                )
    frame = (
        f'<path class="frame" d="M{_LEFT} {_TOP}h{_CELL * len(clean_tokens)}v{_CELL * len(heads)}'
        f'h-{_CELL * len(clean_tokens)}z"/>'
    )
    return (
        f'<svg class="attention" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="what heads look at">{"".join(parts)}{frame}</svg>'
    )
