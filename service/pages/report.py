"""The report: one HTML file that shows one or several matches, with nothing outside it.

No network, no external asset: style, charts and script are in the file, and its content security
policy forbids everything else. All text from models and corpora is untrusted and escaped.
"""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isogloss.errors import InvalidInput
from isogloss.service.pages.figures import Figures, figures_of
from isogloss.service.pages.other_measures import (
    MarginBand,
    OtherMeasure,
    margins_of,
    measures_of,
)
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import (
    Bars,
    Headline,
    Level,
    PairGroup,
    ReportSide,
    bars_of,
    clean,
    groups_of,
    headline_of,
    levels_of,
    open_report,
    sides_of,
)

__all__ = ["render_report", "write_report"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """One match on the page."""

    id: str
    """Id of the match."""
    sides: tuple[ReportSide, ReportSide]
    """The two dictionaries."""
    headline: Headline
    """The result in plain words."""
    levels: tuple[Level, ...]
    """Counts at some thresholds."""
    figures: Figures
    """The charts."""
    groups: tuple[PairGroup, ...]
    """Pairs with their text."""
    cautions: tuple[tuple[str, str], ...]
    """Code and message of each reason to doubt."""
    facts: tuple[tuple[str, str, str], ...]
    """Facts about both dictionaries: name, value of the first, value of the second."""
    setting: tuple[tuple[str, str], ...]
    """Settings of the match, and the text it was made on."""
    references: tuple[tuple[str, tuple[str, ...]], ...]
    """What stands beside the match (itself, ceilings, floors), and the pairs that replicate there
    at each threshold; empty where there is neither ceiling nor floor."""
    bars: Bars
    """What the settings ask of pairs."""
    measures: tuple[OtherMeasure, ...]
    """What else was measured."""
    margins: tuple[MarginBand, ...]
    """Pairs by their margin."""


def render_report(reports: Sequence[Mapping[str, object]], *, title: str = "") -> str:
    """Return the report of matches as one HTML page.

    Args:
        reports: report data saved with each match (``MatchInfo.details``), in the order to show.
        title: the page's title; by default the names of the first match's models.

    Returns:
        The page's HTML.

    Raises:
        InvalidInput: ``reports`` is empty.
        CorruptData: a report lacks a field.
        UnsupportedVersion: a later release made a report.
    """
    if not reports:
        raise InvalidInput(
            "0 matches, wanted at least 1: give the ids that `isogloss matches` lists"
        )
    sections = [_section(Node(report, f"report {number}")) for number, report in enumerate(reports)]
    first = sections[0].sides
    environment = _environment()
    script = environment.get_template("report.js").render()
    style = environment.get_template("report.css").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        title=clean(title) or f"Which features do {first[0].name} and {first[1].name} share?",
        sections=sections,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        version=clean(str(reports[0].get("isogloss", ""))),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        # Our own files, without a value in them: the only text on the page that is not escaped.
        style=Markup(style),
        script=Markup(script),
    )


def write_report(reports: Sequence[Mapping[str, object]], path: Path, *, title: str = "") -> Path:
    """Write the report to a file and return its absolute path. Raises as `render_report`."""
    text = render_report(reports, title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path.resolve()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("isogloss.service.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(report: Node) -> _Section:
    data = open_report(report)
    sides = sides_of(report)
    return _Section(
        id=report.text("match"),
        sides=sides,
        headline=headline_of(data, sides),
        levels=levels_of(data),
        figures=figures_of(report, data, sides),
        groups=groups_of(report, data),
        cautions=tuple(
            (node.text("code"), clean(node.text("message"))) for node in data.nodes("cautions")
        ),
        facts=_facts(report),
        setting=_setting(report, data),
        references=_references(data),
        bars=bars_of(data),
        measures=measures_of(data, sides),
        margins=margins_of(data),
    )


def _references(data: Node) -> tuple[tuple[str, tuple[str, ...]], ...]:
    others = data.nodes("references") if "references" in data else ()
    if not others:
        return ()
    named = [("this match", data)]
    named += [(f"{one.text('role')}: {clean(one.text('what'))}", one) for one in others]
    return tuple(
        (
            name,
            tuple(
                f"{counts.node('replicates').count('yes'):,}" for counts in found.nodes("counts")
            ),
        )
        for name, found in named
    )


def _facts(report: Node) -> tuple[tuple[str, str, str], ...]:
    a, b = (_side_facts(report.node("sides").node(key)) for key in "ab")
    return tuple((name, a[name], b[name]) for name in a)


def _settings(config: Node) -> str:
    """Return the settings of a run as text, with those of its kind in their place."""
    parts: list[str] = []
    for name in config.names:
        if name == "settings":
            parts.append(_settings(config.node(name)))
        else:
            parts.append(f"{name} {config.plain(name)}")
    return ", ".join(parts)


def _side_facts(side: Node) -> dict[str, str]:
    provenance = side.node("provenance")
    config = provenance.node("config") if "config" in provenance else None
    cosine = provenance.maybe("init_cosine")
    facts = {
        "model": side.text("model"),
        "model revision": side.text("model_revision", "") or "not stated",
        "tokenizer": side.text("tokenizer"),
        "corpus": side.text("corpus"),
        "recording": f"{side.text('recording')} (uid {side.text('recording_uid')})",
        "rows": f"{side.count('rows'):,} at revision {side.text('revision')}",
        "site": f"{side.text('site')}, width {side.count('width'):,}",
        "dictionary": f"{side.text('dictionary')} (uid {side.text('uid')})",
        "kind": f"{side.text('kind')}, {side.count('features'):,} features"
        + (f", {k} active a row" if (k := side.count("k")) else ""),
        "trained on": f"{provenance.count('rows_trained'):,} rows, repeats counted",
        "settings": "not trained here" if config is None else _settings(config),
        "initial weights": f"sha256 {provenance.text('init_hash') or 'unknown'}",
        "final to initial": "unknown" if cosine is None else f"mean cosine {cosine:.2f}",
        "weights": f"sha256 {provenance.text('weights_sha256') or 'unknown'}",
    }
    for name in (recorded := side.node("recorded_with")).names:
        facts[f"recorded: {name}"] = recorded.plain(name)
    return {name: clean(value) for name, value in facts.items()}


def _setting(report: Node, data: Node) -> tuple[tuple[str, str], ...]:
    probe, halves = report.node("probe"), data.node("probe")
    settings = data.node("settings")
    segments, documents = halves.node("segments"), halves.node("documents")
    grid = {"tokens": "tokens", "word_ends": "words, compared at their last token"}
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.number("created")))
    return (
        ("match", f"{report.text('match')}, made {made} by isogloss {report.text('isogloss')}"),
        ("probe", f"{probe.text('id')} (uid {probe.text('uid')})"),
        ("segments are", grid.get(halves.text("grid"), halves.text("grid"))),
        (
            "pairs chosen on",
            f"{segments.count('choose'):,} segments of {documents.count('choose'):,} documents",
        ),
        (
            "reported on",
            f"{segments.count('report'):,} segments of {documents.count('report'):,} others",
        ),
        ("held out of training", f"{100 * probe.number('holdout'):.0f} % of the documents"),
        ("settings", ", ".join(f"{name} {settings.plain(name)}" for name in settings.names)),
    )
