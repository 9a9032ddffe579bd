"""The shell of every drawn page, its colours, and the frame of a drawing in it."""

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --line: #d5dae0; --faint: #6a737d;
  --more: #0b57a4; --less: #b3261e; --mark: #d9480f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --paper: #14171b; --line: #3a424d; --faint: #9aa4af;
    --more: #6db3f8; --less: #f28b82 }
}
body { margin: 24px; background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif }
h1 { font-size: 18px; margin: 0 0 4px } h2 { font-size: 15px; margin: 20px 0 4px }
p { margin: 0 0 16px; max-width: 75ch }
svg text { fill: var(--ink); font: 10px ui-monospace, monospace }
svg text.title { font: 600 12px system-ui, sans-serif }
svg .frame { fill: none; stroke: var(--line) }
svg .more { fill: var(--more) } svg .less { fill: var(--less) }
svg .cell:hover { stroke: var(--mark); stroke-width: 2; fill-opacity: 1 }
"""  # noqa: E501 - a style sheet

_MOST_CHARACTERS = 12
_WHITE = {"\n": "⏎", "\t": "⇥", " ": "·", "Ġ": "·", "Ċ": "⏎", "▁": "·"}


def page(title: str, said: str, body: str, style: str = "") -> str:
    """Return an HTML page that stands alone: no script, nothing to fetch, dark where that is asked.

    Args:
        title: of the page, plain text.
        said: how it is read, plain text, a sentence or some.
        body: what is drawn, HTML.
        style: further rules of CSS; there are the colours ``--ink``, ``--paper``, ``--line``,
            ``--faint``, ``--more``, ``--less`` and ``--mark``.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style></head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n<p>{escape(said)}</p>\n{body}\n</body></html>\n"
    )


def svg(label: str, size: tuple[int, int], parts: Sequence[str]) -> str:
    """Return an ``<svg>`` element, which takes its colours from the page.

    Args:
        label: what it shows, plain text, for who does not see it.
        size: width and height in pixels.
        parts: elements in it.
    """
    width, height = size
    inside = "\n".join(parts)
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">\n{inside}\n</svg>'
    )


def readable(token: str) -> str:
    """Return a token as a label: white space is shown, and what is long is cut.

    Args:
        token: as the text or the vocabulary has it.
    """
    shown = "".join(_WHITE.get(one, one if one.isprintable() else "�") for one in token)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 1]}…"
