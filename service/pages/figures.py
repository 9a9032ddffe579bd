"""The charts of one match, from its saved report data."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from isogloss.service.pages.charts import (
    Line,
    Point,
    count_axis,
    line_chart,
    linear_axis,
    scatter_chart,
)
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import ReportSide, decimal

NULL_KEYS = {
    "none": "free shuffle",
    "token": "token kept",
    "position": "position kept",
    "document": "document kept",
    "token_position": "token and position kept",
}
"""What each null keeps, in a word or two."""

_LABELS = (("beyond the token", "beyond"), ("not beyond it", "driven"), ("undecided", "other"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Features that fire about equally often."""

    label: str
    """Range of how often the band's features fire, as text."""
    features: int
    """Number of features in the band."""
    percent: float
    """Per cent of them that are in a pair with r of at least .3."""
    best: str
    """Median of their best correlation."""
    null_best: str
    """Median best r of the band's features when rows are shuffled freely."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Charts as SVG, safe to put in a page, and what the page's script reads."""

    curves: Markup
    """Shared pairs over thresholds, beside their nulls."""
    scatter: Markup
    """r against r given the token."""
    best: Markup
    """Best correlation of every feature, beside the nulls."""
    density: Markup
    """Histogram of how often features fire."""
    margin: Markup
    """r against the margin over the next best partner."""
    cosine: Markup
    """r against the cosine of the decoder rows; empty where widths differ or are unknown."""
    training: Markup
    """Unexplained variance while training; empty when no curve was kept."""
    bands: tuple[Band, ...]
    """Shared features by how often they fire."""
    data: dict[str, object]
    """The curves as numbers."""
    shown: int
    """Points of the scatter."""
    shown_text: str
    """Says how many pairs the table holds, of how many."""
    pairs: dict[str, list[object]]
    """The columns of the table of pairs, by title."""


def figures_of(report: Node, data: Node, sides: tuple[ReportSide, ReportSide]) -> Figures:
    """Draw the charts of one match."""
    curves = data.node("curves")
    nulls = curves.node("nulls")
    scatter = data.node("scatter")
    shown, total = len(scatter.numbers("r")), data.count("pairs")
    return Figures(
        curves=_safe(_curves(curves)),
        scatter=_safe(_scatter(scatter)),
        best=_safe(_best(data.node("best"), sides)),
        density=_safe(_density(data, sides)),
        margin=_safe(_against(scatter, "margin", "margin over the next best partner")),
        cosine=_safe(_against(scatter, "decoder_cosine", "cosine of the decoder rows")),
        training=_safe(_training(report, sides)),
        bands=tuple(_band(node) for node in data.nodes("bands")),
        data={
            "thresholds": curves.numbers("thresholds"),
            "shared": curves.numbers("shared"),
            "beyond": curves.numbers("beyond_token"),
            "nulls": {name: nulls.numbers(name) for name in nulls.names},
            "names": NULL_KEYS,
        },
        shown=shown,
        shown_text=f"{shown:,} of the {total:,} pairs, spread evenly over r: "
        "`isogloss pairs` lists all."
        if shown < total
        else f"All {total:,} pairs.",
        pairs=_table_of_pairs(scatter, sides),
    )


def _table_of_pairs(scatter: Node, sides: tuple[ReportSide, ReportSide]) -> dict[str, list[object]]:
    """Return the columns of the table of pairs, highest r first."""
    r = scatter.numbers("r")
    order = sorted(range(len(r)), key=lambda row: -r[row])
    names = [f"feature of {side.name}" for side in sides]
    if names[0] == names[1]:
        names = [f"{name} ({key})" for name, key in zip(names, "ab", strict=True)]
    columns: dict[str, Sequence[object]] = {
        names[0]: [round(feature) for feature in scatter.numbers("feature_a")],
        names[1]: [round(feature) for feature in scatter.numbers("feature_b")],
        "r": scatter.maybes("r"),
        "given token": scatter.maybes("partial_token"),
        "token null": scatter.maybes("token_null"),
        "margin": scatter.maybes("margin"),
        "fires on": [round(fires) for fires in scatter.numbers("fires")],
        "beyond token": scatter.texts("beyond_token"),
    }
    return {name: [values[row] for row in order] for name, values in columns.items()}


def _safe(svg: str) -> Markup:
    return Markup(svg)


def _curves(curves: Node) -> str:
    thresholds, shared = curves.numbers("thresholds"), curves.numbers("shared")
    nulls = curves.node("nulls")
    lines = [
        Line(
            name=NULL_KEYS[key],
            style=f"null-{key}",
            x=thresholds,
            y=nulls.numbers(key),
        )
        for key in NULL_KEYS
        if key in nulls
    ]
    lines += [
        Line(
            name="beyond the token",
            style="beyond",
            x=thresholds,
            y=curves.numbers("beyond_token"),
        ),
        Line(name="shared pairs", style="shared", x=thresholds, y=shared, is_filled=True),
    ]
    highest = max((max(line.y, default=0.0) for line in lines), default=0.0)
    return line_chart(
        "Number of shared pairs at or above each correlation, beside the nulls",
        linear_axis("correlation r on the report half, at least", 0.0, 1.0),
        count_axis("pairs (log scale)", highest),
        lines[::-1],
        mark=True,
    )


def _scatter(scatter: Node) -> str:
    partial = scatter.maybes("partial_token")
    columns = zip(
        scatter.numbers("r"),
        partial,
        scatter.numbers("feature_a"),
        scatter.numbers("feature_b"),
        scatter.texts("explained_by"),
        scatter.texts("beyond_token"),
        strict=True,
    )
    points = [
        Point(
            x=r,
            y=given,
            style=_style(beyond, explained),
            title=(
                f"{a:.0f} and {b:.0f}: r {decimal(r)}, given token {decimal(given)}; beyond the "
                f"token: {beyond}"
            ),
        )
        for r, given, a, b, explained, beyond in columns
        if given is not None
    ]
    low = min((point.y for point in points), default=0.0)
    return scatter_chart(
        "Correlation of each pair against its correlation given the token",
        linear_axis("correlation r", 0.0, 1.0),
        linear_axis("r given the token", min(0.0, max(low, -0.4)), 1.0, text=_signed),
        points,
        legend=[
            ("beyond the token", "beyond"),
            ("not beyond it", "driven"),
            ("undecided, or position", "other"),
        ],
        lines=[Line(name="", style="guide", x=(0.0, 1.0), y=(0.0, 1.0))],
    )


def _style(beyond: str, explained: str) -> str:
    if beyond == "yes":
        return "beyond"
    return "driven" if beyond == "no" and explained != "position" else "other"


def _against(scatter: Node, column: str, label: str) -> str:
    """Draw r against another column of the pairs; empty where no pair has it."""
    if column not in scatter:
        return ""
    rows = zip(
        scatter.maybes(column), scatter.numbers("r"), scatter.texts("beyond_token"), strict=True
    )
    style = {"yes": "beyond", "no": "driven"}
    points = [
        Point(x=value, y=r, style=style.get(beyond, "other"), title=f"{value:.3f}, r {r:.3f}")
        for value, r, beyond in rows
        if value is not None
    ]
    if not points:
        return ""
    low = min(0.0, min(point.x for point in points))
    return scatter_chart(
        f"Correlation of each pair against the {label}",
        linear_axis(label, low, 1.0),
        linear_axis("correlation r", 0.0, 1.0),
        points,
        legend=_LABELS,
    )


def _best(best: Node, sides: tuple[ReportSide, ReportSide]) -> str:
    edges = best.numbers("edges")
    nulls = best.node("nulls")
    lines = [
        _steps(side.name, key, edges, best.numbers(key))
        for key, side in zip("ab", sides, strict=True)
    ]
    lines += [
        _steps(
            f"{NULL_KEYS[key]} ({sides[0].name})",
            f"null-{key}",
            edges,
            nulls.node(key).numbers("a"),
        )
        for key in ("none", "token")
        if key in nulls
    ]
    highest = max(max(line.y, default=0.0) for line in lines)
    return line_chart(
        "Best correlation of each feature with any feature of the other dictionary",
        linear_axis("best correlation (choose half)", 0.0, 1.0),
        linear_axis("features", 0.0, max(highest, 4.0), text=_thousands),
        lines,
    )


def _density(data: Node, sides: tuple[ReportSide, ReportSide]) -> str:
    lines: list[Line] = []
    for key, side in zip("ab", sides, strict=True):
        density = data.node(key).node("density")
        edges, counts = density.numbers("edges"), density.numbers("counts")
        if counts:
            lines.append(_steps(side.name, key, edges, counts))
    ends = [value for line in lines for value in (line.x[0], line.x[-1])] or [-4.0, 0.0]
    highest = max((max(line.y) for line in lines), default=4.0)
    return line_chart(
        "How often features fire",
        linear_axis(
            "share of segments on which a feature fires", min(ends), max(ends), text=_power
        ),
        linear_axis("features", 0.0, max(highest, 4.0), text=_thousands),
        lines,
    )


def _training(report: Node, sides: tuple[ReportSide, ReportSide]) -> str:
    lines: list[Line] = []
    for key, side in zip("ab", sides, strict=True):
        curve = report.node("sides").node(key).node("provenance").nodes("curve")
        if curve:
            lines.append(
                Line(
                    name=side.name,
                    style=key,
                    x=[point.number("rows") for point in curve],
                    y=[point.number("fvu") for point in curve],
                )
            )
    if not lines:
        return ""
    rows = max(line.x[-1] for line in lines)
    highest = max(max(line.y) for line in lines)
    return line_chart(
        "Share of the variance left unexplained while training",
        linear_axis("rows trained on", 0.0, rows, text=_thousands),
        linear_axis("variance unexplained", 0.0, min(max(highest, 0.05), 1.5), text=_percent),
        lines,
    )


def _steps(name: str, style: str, edges: Sequence[float], counts: Sequence[float]) -> Line:
    """Return a histogram's outline."""
    x = [edge for edge in edges for _ in range(2)]
    y = [0.0, *(count for count in counts for _ in range(2)), 0.0]
    return Line(name=name, style=style, x=x, y=y, is_filled=style in ("a", "b"))


def _band(node: Node) -> Band:
    low, high = node.count("fires_from"), node.maybe("fires_to")
    label = f"{low:,} or more" if high is None else f"{low:,} to {high - 1:,.0f}"
    null = node.node("null_best")
    return Band(
        label=label,
        features=node.count("features"),
        percent=100 * node.number("share"),
        best=decimal(node.maybe("median_best")),
        null_best=decimal(null.maybe("none") if "none" in null else None),
    )


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _thousands(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _power(value: float) -> str:
    """Write a share whose log10 is ``value``."""
    share = 100 * 10**value
    return f"{share:.0f} %" if share >= 1 else f"{share:.2g} %"
