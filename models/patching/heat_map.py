"""A trace as one page: sites by positions, drawn as SVG, with nothing to fetch."""

from html import escape

from isogloss.models.pages.page import page, readable, svg
from isogloss.models.patching.tracing import Trace

_WIDE, _HIGH, _CHARACTER, _TOP = 34, 18, 6.4, 92

_STYLE = "svg .cell { stroke: var(--line); stroke-width: .5 }"

_SAID = {
    "denoise": "a clean activation was put into the run of the corrupt texts; 1 restores what the "
    "model says of the clean ones",
    "noise": "a corrupt activation was put into the run of the clean texts; 1 destroys as much as "
    "the corrupt texts do",
}


def trace_page(found: Trace) -> str:
    """Draw a trace as an HTML page that stands alone: no script, nothing to fetch.

    Args:
        found: of :func:`isogloss.models.trace`.

    Returns:
        The page: blue cells go the way of the other run, red ones the opposite way; a cell's hover
        text names site, token, effect and the metric.
    """
    metric = found.metric.replace("_", " ")
    return page(
        f"Causal trace of {found.model}",
        f"Each row is a site, each column a token of the first text. In each cell "
        f"{_SAID[found.mode]}. Blue goes that way, red the opposite one. The {metric} is "
        f"{found.clean:.3g} on the clean texts and {found.corrupt:.3g} on the corrupt ones.",
        trace_svg(found),
        _STYLE,
    )


def trace_svg(found: Trace) -> str:
    """Draw the grid of a trace.

    Args:
        found: of :func:`isogloss.models.trace`.

    Returns:
        An ``<svg>`` element. It takes its colours from the page's style sheet.
    """
    left = round(_CHARACTER * max(map(len, found.sites))) + 12
    tokens = [escape(readable(token)) for token in found.tokens]
    parts: list[str] = []
    for j, token in enumerate(tokens):
        x = left + j * _WIDE + _WIDE // 2
        parts.append(f'<text transform="translate({x} {_TOP - 6}) rotate(-60)">{token}</text>')
    for i, site in enumerate(map(escape, found.sites)):
        y = _TOP + i * _HIGH
        parts.append(f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{site}</text>')
        for j, token in enumerate(tokens):
            effect, value = float(found.effects[i, j]), float(found.values[i, j])
            side, share = "more" if effect >= 0 else "less", min(abs(effect), 1.0)
            parts.append(
                f'<rect class="cell {side}" x="{left + j * _WIDE}" y="{y}" width="{_WIDE}" '
                f'height="{_HIGH}" fill-opacity="{share:.3f}"><title>{site} at '
                f"{found.positions[j]} {token}: effect {effect:.3f}, {found.metric} {value:.4g}"
                "</title></rect>"
            )
    size = (left + len(tokens) * _WIDE + 70, _TOP + len(found.sites) * _HIGH + 4)
    return svg("effects of sites by positions", size, parts)
