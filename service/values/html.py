"""Building blocks of what a notebook shows of a value: a card of facts, tables, a bar of progress.

All text is escaped. Colours are those of the notebook's theme, light or dark.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from time import localtime, strftime

_CARD = "border-left:3px solid #8884;padding:.1em .8em;margin:.3em 0;max-width:60em"
_CELL = "text-align:{};padding:.1em .7em .1em 0;vertical-align:top{}"
_WHOLE = ";white-space:nowrap"  # browsers break ids at their hyphens
_SHOWN = 10
"""Rows of a table; what follows is counted."""


def card(title: str, facts: Mapping[str, object], *parts: str) -> str:
    """Return a value as HTML.

    Args:
        title: what it is.
        facts: names and values; a value that is empty is left out.
        *parts: HTML to show below them.
    """
    rows = "".join(
        f"<tr>{_cell(name, style=';opacity:.65')}{_cell(words(value))}</tr>"
        for name, value in facts.items()
        if words(value)
    )
    body = f'<table style="border-collapse:collapse">{rows}</table>' if rows else ""
    return f'<div style="{_CARD}"><b>{escape(title)}</b>{body}{"".join(parts)}</div>'


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "none") -> str:
    """Return rows as an HTML table, the first ten of them; numbers to the right."""
    if not rows:
        return f"<div>{escape(empty)}</div>"
    sides = [
        "right" if all(isinstance(row[at], int | float) for row in rows) else "left"
        for at in range(len(titles))
    ]
    head = "".join(
        f'<th style="{_CELL.format(side, "")}">{escape(title)}</th>'
        for title, side in zip(titles, sides, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(_cell(words(value), side) for value, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in rows[:_SHOWN]
    )
    more = f"<div>and {len(rows) - _SHOWN:,} more</div>" if len(rows) > _SHOWN else ""
    return f'<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>{more}'


def _cell(text: str, side: str = "left", style: str = "") -> str:
    """Return a cell; one word, such as an id, stays on one line."""
    whole = "" if " " in text else _WHOLE
    return f'<td style="{_CELL.format(side, whole)}{style}">{escape(text)}</td>'


def passages(places: Iterable[tuple[str, str, str, float]]) -> str:
    """Return places in texts: what stands before, the marked word, what follows, a number."""
    lines = "".join(
        f'<div><span style="opacity:.65">{value:.2f}</span> '
        f"{escape(before)}<mark>{escape(peak)}</mark>{escape(after)}</div>"
        for before, peak, after, value in places
    )
    return f'<div style="white-space:pre-wrap">{lines}</div>' if lines else ""


def text_block(text: str) -> str:
    """Return text of several lines."""
    style = "white-space:pre-wrap;margin:.3em 0;font-family:monospace"  # its columns are of spaces
    return f'<pre style="{style}">{escape(text)}</pre>' if text else ""


def bar(done: float, total: float) -> str:
    """Return a bar of progress; one without an end where the total is not known."""
    if total <= 0:
        return "<progress></progress>"
    share = min(max(done / total, 0.0), 1.0)
    return f'<progress value="{share:.4f}" max="1"></progress> {100 * share:.0f} %'


def words(value: object) -> str:
    """Write a value for people; nothing where it is unknown."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def when(seconds: float) -> str:
    """Write a time of the clock in this machine's zone."""
    return strftime("%Y-%m-%d %H:%M", localtime(seconds))
