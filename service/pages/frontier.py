"""The frontier of a sweep as one SVG file: FVU over features a row, with bands of reseeding."""

import math
from collections.abc import Sequence
from html import escape

from isogloss.dictionaries import Cell, Reseeding
from isogloss.errors import InvalidInput
from isogloss.service.pages.charts import Axis

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 480, 74, 250, 24, 60
_COLOURS = ("#0b5fa5", "#b3450b", "#2b7a3d", "#7a3f9d", "#8a6d00", "#a01f4b", "#006d77", "#4a4a4a")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_STEPS = (1, 2, 5)
_LETTER = 7.6
"""Width of a letter of the legend, a little more than the mean of common fonts at 13 units."""


def frontier_svg(cells: Sequence[Cell], reseeding: Reseeding | None) -> str:
    """Draw the cells of a sweep, one line for each site, kind, size and length.

    Args:
        cells: at least one.
        reseeding: gives the 95 % band of each cell; None: none are drawn, and the plot says so.

    Returns:
        An SVG document that needs nothing else.

    Raises:
        InvalidInput: there are no cells.
    """
    if not cells:
        raise InvalidInput("there are 0 dictionaries to plot: sweep over at least one")
    factors = [1.0 if reseeding is None else reseeding.factor(cell) for cell in cells]
    x = _axis("features that fire on a row", [cell.l0 for cell in cells])
    lows = [cell.fvu / factor for cell, factor in zip(cells, factors, strict=True)]
    highs = [cell.fvu * factor for cell, factor in zip(cells, factors, strict=True)]
    y = _axis("fraction of variance unexplained", [*lows, *highs])
    parts = [_frame(x, y)]
    lines: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        lines.setdefault(_name(cell), []).append(number)
    for place, (name, numbers) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        dash = _DASHES[place // len(_COLOURS) % len(_DASHES)]
        own = sorted(numbers, key=lambda number: cells[number].l0)
        if reseeding is not None:
            edge = [(_x(x, cells[n].l0), _y(y, lows[n])) for n in own]
            edge += [(_x(x, cells[n].l0), _y(y, highs[n])) for n in reversed(own)]
            points = " ".join(f"{across:.1f},{up:.1f}" for across, up in edge)
            parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.16"/>')
        path = " ".join(f"{_x(x, cells[n].l0):.1f},{_y(y, cells[n].fvu):.1f}" for n in own)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        parts += [_mark(x, y, cells[n], lows[n], highs[n], colour) for n in own]
        up = _TOP + 12 + 19 * place
        parts.append(
            f'<line x1="{_WIDTH - _RIGHT + 14}" x2="{_WIDTH - _RIGHT + 38}" y1="{up}" y2="{up}" '
            f'stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
            f'<text x="{_WIDTH - _RIGHT + 44}" y="{up + 4}">{escape(name)}</text>'
        )
    longest = max(len(name) for name in lines)
    width = max(_WIDTH, round(_WIDTH - _RIGHT + 50 + _LETTER * longest))
    said = "bands: 95 %, by seed" if reseeding is not None else "one seed each: no bands"
    parts.append(
        f'<text x="{_WIDTH - _RIGHT + 14}" y="{_HEIGHT - _BOTTOM}" fill="#555">{said}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13"><title>FVU over features a row'
        f'</title><rect width="{width}" height="{_HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _name(cell: Cell) -> str:
    key = cell.key
    return f"{key.site} {key.kind} {key.features:,} x{key.epochs:g}"


def _mark(x: Axis, y: Axis, cell: Cell, low: float, high: float, colour: str) -> str:
    """Draw a cell and its band, which a cell alone on its line would not show."""
    across = _x(x, cell.l0)
    title = f"{_name(cell)}, {cell.l0:.1f} features a row, FVU {cell.fvu:.4f}"
    return (
        f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{_y(y, low):.1f}" y2="{_y(y, high):.1f}" '
        f'stroke="{colour}"/><circle cx="{across:.1f}" cy="{_y(y, cell.fvu):.1f}" r="3.5" '
        f'fill="{colour}"><title>{escape(title)}</title></circle>'
    )


def _axis(label: str, values: Sequence[float]) -> Axis:
    """Return a logarithmic axis over all values, marked at 1, 2 and 5 of each decade."""
    low, high = min(values) / 1.08, max(values) * 1.08
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = tuple(
        step * 10.0**power
        for power in powers
        for step in _STEPS
        if low <= step * 10.0**power <= high
    )
    if len(ticks) < 2:
        ticks = (float(f"{low * 1.02:.2g}"), float(f"{high / 1.02:.2g}"))
        low, high = min(low, ticks[0]), max(high, ticks[1])
    return Axis(label=label, low=low, high=high, ticks=ticks, is_log=True)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * axis.place(value)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * axis.place(value)


def _frame(x: Axis, y: Axis) -> str:
    foot, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{foot}H{right}" fill="none" stroke="#333"/>',
        (
            f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 14}" text-anchor="middle">'
            f"{escape(x.label)}</text>"
        ),
        (
            f'<text transform="translate(18 {(_TOP + foot) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(y.label)}</text>"
        ),
    ]
    for tick in y.ticks:
        up = _y(y, tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{up:.1f}" y2="{up:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 8}" y="{up + 4:.1f}" text-anchor="end">{y.text(tick)}</text>'
        )
    for tick in x.ticks:
        across = _x(x, tick)
        parts.append(
            f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{foot}" y2="{foot + 5}" stroke="#333"/>'
            f'<text x="{across:.1f}" y="{foot + 21}" text-anchor="middle">{x.text(tick)}</text>'
        )
    return "".join(parts)
