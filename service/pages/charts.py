"""Charts of the report: small inline SVG, coloured by the page's style sheet, drawn in Python.

Every chart has the same frame; lengths are in the units of its view box, which the page scales.
All text passes through :func:`html.escape`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 620
HEIGHT = 410
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 34, 60, 58


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis: the values it covers, where it is marked, and what it is called."""

    label: str
    """Name of the quantity, with its unit."""
    low: float
    """Value at the origin."""
    high: float
    """Value at the far end."""
    ticks: tuple[float, ...]
    """Values that get a mark and a number."""
    is_log: bool = False
    """Logarithmic; values at or below ``low`` are drawn on it."""
    text: Callable[[float], str] = "{:g}".format
    """Format of the numbers at the ticks."""

    def place(self, value: float) -> float:
        """Return where a value lies between the ends, in ``[0, 1]``."""
        if self.is_log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(min(max(value, self.low), self.high)) - low) / (high - low)
        share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A curve or a step outline."""

    name: str
    """Its entry in the legend."""
    style: str
    """Class in the style sheet: ``a``, ``b``, ``shared``, ``null-token``, ..."""
    x: Sequence[float]
    """Horizontal values, ascending."""
    y: Sequence[float]
    """Vertical values, as many."""
    is_filled: bool = False
    """Whether the area below is tinted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One mark of a scatter."""

    x: float
    """Horizontal value."""
    y: float
    """Vertical value."""
    style: str
    """Class in the style sheet."""
    title: str
    """Shown when the pointer rests on it."""


def count_axis(label: str, highest: float) -> Axis:
    """Return a logarithmic axis of counts; everything below 1 lies on its foot, marked 0."""
    shown = max(highest, 9.0)
    top = 10 ** math.ceil(math.log10(shown * 1.05))
    decades = tuple(float(10**power) for power in range(round(math.log10(top)) + 1))
    ticks = (0.5, *decades)
    return Axis(
        label=label,
        low=0.5,
        high=float(top),
        ticks=ticks,
        is_log=True,
        text=lambda value: "0" if value < 1 else f"{value:,.0f}",
    )


def linear_axis(
    label: str, low: float, high: float, *, text: Callable[[float], str] = "{:g}".format
) -> Axis:
    """Return a linear axis with four to seven round ticks that covers ``[low, high]``."""
    span = max(high - low, 1e-12)
    raw = span / 5
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(step * index, 12) for index in range(first, last + 1))
    return Axis(label=label, low=ticks[0], high=ticks[-1], ticks=ticks, text=text)


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], *, mark: bool = False) -> str:
    """Draw curves with a legend.

    Args:
        title: text that describes the chart, for readers who cannot see it.
        x: horizontal axis.
        y: vertical axis.
        lines: the curves, drawn in order.
        mark: whether to draw a vertical marker, hidden until the page's script moves it.
    """
    parts = [_frame(x, y)]
    for line in lines:
        places = [(_x(x, value), _y(y, other)) for value, other in zip(line.x, line.y, strict=True)]
        if not places:
            continue
        path = "M" + "L".join(f"{across:.1f} {up:.1f}" for across, up in places)
        if line.is_filled:
            foot = HEIGHT - _BOTTOM
            area = f"{path}L{places[-1][0]:.1f} {foot}L{places[0][0]:.1f} {foot}Z"
            parts.append(f'<path class="area {line.style}" d="{area}"/>')
        parts.append(f'<path class="line {line.style}" d="{path}"/>')
    parts.append(_legend([(line.name, line.style, True) for line in lines]))
    if mark:
        parts.append(
            f'<line class="marker" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" '
            f'data-left="{_LEFT}" data-span="{WIDTH - _LEFT - _RIGHT}" data-low="{x.low:g}" '
            f'data-high="{x.high:g}"/>'
        )
    return _svg(title, parts)


def scatter_chart(
    title: str,
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    *,
    legend: Sequence[tuple[str, str]],
    lines: Sequence[Line] = (),
) -> str:
    """Draw points, over lines that guide the eye.

    Args:
        title: text that describes the chart, for readers who cannot see it.
        x: horizontal axis.
        y: vertical axis.
        points: the marks.
        legend: name and class of each kind of point.
        lines: straight guides.
    """
    parts = [_frame(x, y)]
    for line in lines:
        places = zip(line.x, line.y, strict=True)
        path = "M" + "L".join(f"{_x(x, value):.1f} {_y(y, other):.1f}" for value, other in places)
        parts.append(f'<path class="line {line.style}" d="{path}"/>')
    parts.extend(
        f'<circle class="dot {point.style}" cx="{_x(x, point.x):.1f}" cy="{_y(y, point.y):.1f}" '
        f'r="3.2"><title>{escape(point.title)}</title></circle>'
        for point in points
    )
    named = [(line.name, line.style, True) for line in lines if line.name]
    parts.append(_legend([*((name, style, False) for name, style in legend), *named]))
    return _svg(title, parts)


def ruler(
    r: float,
    low: float,
    high: float,
    token_null: float | None,
    partial: float | None,
    title: str,
) -> str:
    """Draw one pair's numbers on a rule from 0 to 1.

    Args:
        r: correlation, a filled dot.
        low: lower end of its interval, a bar.
        high: upper end.
        token_null: expected r if only the token mattered, a hollow dot; None draws none.
        partial: correlation given the token, a diamond; None draws none.
        title: the same in words.
    """
    width, middle, edge = 260, 13, 8

    def at(value: float) -> float:
        return edge + (width - 2 * edge) * min(max(value, 0.0), 1.0)

    parts = [f'<line class="rule" x1="{edge}" x2="{width - edge}" y1="{middle}" y2="{middle}"/>']
    parts.extend(
        f'<line class="rule" x1="{at(t / 4):.1f}" x2="{at(t / 4):.1f}" y1="9" y2="17"/>'
        for t in range(5)
    )
    parts.append(
        f'<line class="interval" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{middle}" '
        f'y2="{middle}"/>'
    )
    if partial is not None:
        parts.append(f'<path class="diamond" d="M{at(partial):.1f} 7l6 6l-6 6l-6 -6Z"/>')
    if token_null is not None:
        parts.append(f'<circle class="hollow" cx="{at(token_null):.1f}" cy="{middle}" r="5"/>')
    parts.append(f'<circle class="solid" cx="{at(r):.1f}" cy="{middle}" r="5"/>')
    return (
        f'<svg class="ruler" viewBox="0 0 {width} 26" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * axis.place(value)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * axis.place(value)


def _frame(x: Axis, y: Axis) -> str:
    foot, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts: list[str] = []
    for tick in y.ticks:
        up = _y(y, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{up:.1f}" y2="{up:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 9}" y="{up + 5:.1f}" text-anchor="end">'
            f"{escape(y.text(tick))}</text>"
        )
    for tick in x.ticks:
        across = _x(x, tick)
        parts.append(
            f'<line class="axis" x1="{across:.1f}" x2="{across:.1f}" y1="{foot}" y2="{foot + 5}"/>'
        )
        parts.append(
            f'<text class="tick" x="{across:.1f}" y="{foot + 22}" text-anchor="middle">'
            f"{escape(x.text(tick))}</text>"
        )
    middle, side = (_LEFT + right) / 2, (_TOP + foot) / 2
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{foot}" y2="{foot}"/>')
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x.label)}</text>"
    )
    parts.append(
        f'<text class="label" transform="translate(17 {side}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.label)}</text>'
    )
    return "".join(parts)


_LEGEND_LEFT = 6.0
_LETTER = 7.7
"""Width of a letter of the legend, a little more than the mean of common fonts at 14 units."""


def _legend(entries: Sequence[tuple[str, str, bool]]) -> str:
    parts: list[str] = []
    across, line = _LEGEND_LEFT, 0
    for name, style, is_line in entries:
        length = 30 + len(name) * _LETTER + 16
        if across + length - 16 > WIDTH and across > _LEGEND_LEFT:
            across, line = _LEGEND_LEFT, line + 1
        up = 12 + 18 * line
        mark = (
            f'<line class="line {style}" x1="{across:.0f}" x2="{across + 22:.0f}" '
            f'y1="{up}" y2="{up}"/>'
            if is_line
            else f'<circle class="dot {style}" cx="{across + 11:.0f}" cy="{up}" r="5"/>'
        )
        parts.append(
            f'{mark}<text class="key" x="{across + 28:.0f}" y="{up + 5}">{escape(name)}</text>'
        )
        across += length
    return "".join(parts)


def activation_bars(counts: Sequence[int], highest: float) -> str:
    """Draw on how many segments a feature is how active, from 0 to its highest activation.

    The heights are logarithms: weak activations are far more frequent than strong ones.

    Args:
        counts: segments in each of equal intervals of activation.
        highest: the highest activation.
    """
    width, height = 120, 26
    top = math.log1p(max(counts, default=0)) or 1.0
    step = width / max(len(counts), 1)
    bars = "".join(
        f'<rect x="{at * step:.1f}" y="{height - height * math.log1p(count) / top:.1f}" '
        f'width="{step - 1:.1f}" height="{height * math.log1p(count) / top:.1f}"/>'
        for at, count in enumerate(counts)
        if count
    )
    title = (
        f"{sum(counts):,} activations from 0 to {highest:.2f}, weak ones left; heights logarithmic"
    )
    return (
        f'<svg class="activations" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{bars}</svg>'
    )
