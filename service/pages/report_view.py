"""Turn the saved report data of one match into the words and numbers that its page shows."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from isogloss.errors import UnsupportedVersion
from isogloss.service.pages.attention_rows import attention_rows
from isogloss.service.pages.charts import activation_bars, ruler
from isogloss.service.pages.report_data import Node

SCHEMA_VERSION = 1
"""Of what a match job saves."""

DATA_VERSION = 2
"""Of the matching's own data in it."""

_SHARED_R = 0.3
_FIRST_PAIRS = 6
_FIRST_CONTEXTS = 3

NULL_NAMES = {
    "none": "rows shuffled freely",
    "token": "shuffled within equal tokens",
    "position": "shuffled within equal positions",
    "document": "shuffled within documents",
    "token_position": "shuffled within equal tokens at about equal positions",
}
"""What each null kept in place, in words."""

_GROUPS = (
    (
        "beyond_token",
        "The strongest beyond the word itself",
        "Tested among segments of one token, with the word held fixed; highest lower end.",
    ),
    (
        "best",
        "The strongest pairs",
        "Highest lower end of the interval, on the documents that did not choose them.",
    ),
    (
        "typical",
        "Typical pairs",
        "Around the median correlation of pairs that replicate: what an ordinary match looks like.",
    ),
    (
        "unreplicated",
        "Pairs that did not hold up",
        "Looked good on the documents that chose them, and failed on the others.",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownPiece:
    """A run of text and how strongly the feature fires on it."""

    text: str
    """The text."""
    strength: int
    """Percent of the feature's highest activation shown; 0 where it is silent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextView:
    """One place where a feature fires."""

    pieces: tuple[ShownPiece, ...]
    """The text, cut by activation."""
    value: float
    """Activation at the peak."""
    cut_before: bool
    """Whether the document goes on before."""
    cut_after: bool
    """Whether the document goes on after."""
    attention: Markup
    """What heads look at from the peak, drawn; empty where that was not asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureView:
    """One side of a pair."""

    feature: int
    """Its index."""
    fires: str
    """Says on how many segments it fires, and of what."""
    histogram: Markup
    """How strongly it fires, drawn; empty where that was not kept."""
    first: tuple[ContextView, ...]
    """The strongest places."""
    more: tuple[ContextView, ...]
    """Further ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairView:
    """A pair with its numbers and its text."""

    a: FeatureView
    """Feature of the first dictionary."""
    b: FeatureView
    """Feature of the second."""
    ruler: Markup
    """The numbers, drawn."""
    numbers: tuple[tuple[str, str, str], ...]
    """Name, value and explanation of each number."""
    explained_by: str
    """``token``, ``position``, ``document`` or ``none``."""
    replicates: str
    """``yes``, ``no`` or ``undecided``: whether it held on the report half."""
    beyond_token: str
    """``yes``, ``no`` or ``undecided``: whether it shares more than its token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairGroup:
    """Pairs shown for one reason."""

    key: str
    """Name in the page's addresses."""
    title: str
    """Heading."""
    explanation: str
    """Why these."""
    first: tuple[PairView, ...]
    """Shown at once."""
    more: tuple[PairView, ...]
    """Shown on demand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """How many pairs have each label."""

    yes: int
    """Tested, and so."""
    no: int
    """Tested, and not so."""
    undecided: int
    """The text at hand cannot tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """The counts at one threshold."""

    threshold: float
    """Correlation on the report half."""
    shared: int
    """Pairs at or above it."""
    replicates: Answers
    """Whether the shared pairs replicate."""
    nulls: tuple[tuple[str, str], ...]
    """Name and number of pairs under each null, with its standard error."""
    beyond_token: Answers
    """Whether the shared pairs share more than their token."""
    median_partial: str
    """Median partial correlation given the token."""
    explained_by: tuple[tuple[str, int, float], ...]
    """For each explanation of the shared pairs: label, number of pairs, per cent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSide:
    """One of the two dictionaries."""

    name: str
    """Short name that tells it from the other."""
    where: str
    """Model and site."""
    dictionary: str
    """Its id."""
    features: int
    """All it has."""
    compared: int
    """Fire often enough to be compared."""
    rare: int
    """Fire too rarely."""
    dead: int
    """Never fire."""
    quality: str
    """Says in words how well the dictionary reconstructs held-out rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """What the settings of a match ask of its pairs, in words."""

    interval: str
    """Confidence of the intervals, such as ``95 %``."""
    replicates_low: str
    """What the lower end of an interval must exceed for a pair to replicate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """The result of a match in plain words."""

    claim: str
    """The finding, one sentence."""
    verdict: str
    """Says in a sentence what the numbers mean."""
    sentences: tuple[str, ...]
    """The numbers beside their nulls."""


def open_report(report: Node) -> Node:
    """Return the matching's own data, after a look at the versions.

    Raises:
        UnsupportedVersion: a later release made the report.
    """
    data = report.node("data")
    for node, name, known in (
        (report, "schema_version", SCHEMA_VERSION),
        (data, "version", DATA_VERSION),
    ):
        if node.count(name) != known:
            raise UnsupportedVersion(
                f"report data has {name} {node.count(name)} and this release reads {known}: "
                "delete the match and match the dictionaries again"
            )
    return data


def sides_of(report: Node) -> tuple[ReportSide, ReportSide]:
    """Return both dictionaries, named so that a reader can tell them apart."""
    nodes = [report.node("sides").node(key) for key in "ab"]
    data = [report.node("data").node(key) for key in "ab"]
    models = [_short(node.text("model")) for node in nodes]
    if models[0] == models[1]:
        models = [node.text("dictionary") for node in nodes]
    first, second = (
        ReportSide(
            name=clean(name),
            where=clean(f"{_short(node.text('model'))} at {node.text('site')}"),
            dictionary=node.text("dictionary"),
            features=counts.count("features"),
            compared=counts.count("compared"),
            rare=counts.count("rare"),
            dead=counts.count("dead"),
            quality=_quality(node),
        )
        for name, node, counts in zip(models, nodes, data, strict=True)
    )
    return first, second


def bars_of(data: Node) -> Bars:
    """Return what the settings ask, as far as they were saved; else what they ask by default."""
    settings = data.node("settings")
    confidence = settings.number("confidence") if "confidence" in settings else 0.95
    low = settings.number("replicates_low") if "replicates_low" in settings else 0.1
    return Bars(interval=f"{100 * confidence:.4g} %", replicates_low=f"{low:.4g}")


def levels_of(data: Node) -> tuple[Level, ...]:
    """Return the counts at each threshold."""
    return tuple(_level(node) for node in data.nodes("counts"))


def headline_of(data: Node, sides: tuple[ReportSide, ReportSide]) -> Headline:
    """Say what was found."""
    level = next(node for node in data.nodes("counts") if node.number("threshold") == _SHARED_R)
    shared = level.count("shared")
    replicates, beyond = (_answers(level.node(name)) for name in ("replicates", "beyond_token"))
    of = min(side.compared for side in sides)
    nulls = level.node("nulls")
    free = nulls.maybe("none") or 0.0
    codes = [caution.text("code") for caution in data.nodes("cautions")]
    bars = bars_of(data)
    found = (
        "A pair is two features that are each other's best match, chosen on one half of the "
        f"documents. On the other half, {shared:,} pairs correlate at {_SHARED_R} or more."
    )
    chance = f"The same matching finds {_about(free)} such pairs when rows are shuffled freely" + (
        f", and {_about(nulls.number('token'))} when they are shuffled only among rows of the "
        "same token, so that nothing but the word is kept."
        if "token" in nulls
        else "."
    )
    holds = (
        f"Of the {shared:,}, {replicates.yes:,} replicate: they are each other's best match again "
        f"there, and the {bars.interval} interval of their correlation (of compressed activations) "
        f"lies above {bars.replicates_low}. {replicates.no:,} do not, and {replicates.undecided:,} "
        "cannot be told."
    )
    more = (
        f"Among segments of one and the same token {beyond.yes:,} still correlate, and position "
        f"does not explain it: they share more than the word that stands there. {beyond.no:,} do "
        f"not, {beyond.undecided:,} cannot be told. By chance at most "
        f"{_about(data.number('chance'))} of all pairs would pass."
    )
    untold = f"; of {replicates.undecided:,} it cannot be told" if replicates.undecided else ""
    return Headline(
        claim=f"{replicates.yes:,} of {of:,} features that could be compared have a partner that "
        f"replicates{untold}",
        verdict=_verdict(shared, beyond, _highest(level), codes),
        sentences=(found, holds, chance, more),
    )


def groups_of(report: Node, data: Node) -> tuple[PairGroup, ...]:
    """Return the example pairs, with their text."""
    examples = data.node("examples")
    contexts = (report.node("contexts_a"), report.node("contexts_b"))
    a, b = (report.node(name) if (name := f"activations_{key}") in report else None for key in "ab")
    groups: list[PairGroup] = []
    bars = bars_of(data)
    for key, title, explanation in _GROUPS:
        pairs = tuple(_pair(row, contexts, (a, b), bars) for row in examples.nodes(key))
        if pairs:
            groups.append(
                PairGroup(
                    key=key,
                    title=title,
                    explanation=explanation,
                    first=pairs[:_FIRST_PAIRS],
                    more=pairs[_FIRST_PAIRS:],
                )
            )
    return tuple(groups)


def clean(text: str) -> str:
    """Replace characters that would garble the page: controls and direction overrides."""
    return "".join(
        character
        if character in "\n\t\u200c\u200d" or unicodedata.category(character) not in _GARBLING
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


_GARBLING = frozenset({"Cc", "Cf", "Cs", "Co"})


def decimal(value: float | None) -> str:
    """Write a correlation: two places, a real minus, a dash where it is unknown."""
    if value is None:
        return "–"
    # Adding 0.0 turns what rounds to minus zero into zero.
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def _level(node: Node) -> Level:
    shared = node.count("shared")
    explained = node.node("explained_by")
    nulls, errors = node.node("nulls"), node.node("null_errors")
    return Level(
        threshold=node.number("threshold"),
        shared=shared,
        replicates=_answers(node.node("replicates")),
        nulls=tuple(
            (name, _about(nulls.number(name)) + _error(errors.maybe(name)))
            for name in NULL_NAMES
            if name in nulls
        ),
        beyond_token=_answers(node.node("beyond_token")),
        median_partial=decimal(node.maybe("median_partial_token")),
        explained_by=tuple(
            (name, explained.count(name), 100 * explained.count(name) / max(shared, 1))
            for name in ("none", "token", "position", "document")
        ),
    )


def _answers(node: Node) -> Answers:
    return Answers(yes=node.count("yes"), no=node.count("no"), undecided=node.count("undecided"))


def _error(error: float | None) -> str:
    """Write a standard error behind a count, where it is one tenth or more."""
    return "" if error is None or error < 0.05 else f" ± {_about(error)}"


def _verdict(shared: int, beyond: Answers, chance: float, codes: Sequence[str]) -> str:
    """Say in a sentence what the numbers mean, and in further ones why they may mean less.

    Args:
        shared: how many pairs are shared.
        beyond: how many of them share more than their token.
        chance: how many a draw of the free null gives at most.
        codes: codes of the cautions.
    """
    decided = beyond.yes + beyond.no
    if shared <= chance:
        verdict = "Hardly more than chance gives."
    elif decided < shared / 4:
        verdict = "The text is too short to tell what is shared beyond which word stands there."
    elif "TOKEN_DRIVEN" in codes or beyond.yes < decided / 2:
        verdict = "Much of what is shared is which word stands there."
    else:
        verdict = "Most of it is more than which word stands there."
    if "SHARED_ANCESTRY" in codes:
        verdict += " The two models are related, so this is not evidence of universality."
    if "SHARED_INIT" in codes:
        verdict += (
            " The two dictionaries began from the same weights, so features may be alike for that "
            "reason alone: train one from another seed."
        )
    return verdict


def _highest(level: Node) -> float:
    """Return how many pairs a draw of the free null gives at most, with 97.5 % confidence.

    Data of earlier releases holds the mean alone: then the upper limit of Poisson counts by the
    score interval, m + z²/2 + z sqrt(m + z²/4).
    """
    if "null_highest" in level and "none" in level.node("null_highest"):
        return level.node("null_highest").number("none")
    mean, z = level.node("nulls").maybe("none") or 0.0, 1.96
    return mean + z * z / 2 + z * math.sqrt(mean + z * z / 4)


def _quality(node: Node) -> str:
    metrics = node.node("metrics") if "metrics" in node else None
    if metrics is None or "fvu" not in metrics:
        return "not evaluated on held-out documents"
    active = f" with {metrics.number('l0'):.0f} active features a row" if "l0" in metrics else ""
    usual = ""
    if "usual_fvu" in metrics and metrics.maybe("usual_rows") != metrics.maybe("rows"):
        usual = f", {100 * (1 - metrics.number('usual_fvu')):.0f} % of that of usual rows"
    explained = 100 * (1 - metrics.number("fvu"))
    return f"explains {explained:.0f} % of held-out variance{usual}{active}{_controls(metrics)}"


def _controls(metrics: Node) -> str:
    """Say what dictionaries explain of which a part was held to its random start."""
    found = [
        f"{name[8:-4].replace('_', ' ')} {100 * (1 - metrics.number(name)):.0f} %"
        for name in metrics.names
        if name.startswith("control_") and name.endswith("_fvu") and "usual" not in name
    ]
    return f"; controls: {', '.join(found)}" if found else ""


def _together(row: Node) -> tuple[str, str, str]:
    """Say on how many segments both fire: of the whole probe where that is known."""
    reported = f"{row.count('cofires'):,}"
    if "together" not in row:
        return "together in the reporting half", reported, "segments of it on which both fire"
    return (
        "fire together on",
        f"{_segments(row.count('together'))}, {reported} of the reporting half",
        "segments on which both fire",
    )


def _interval(low: float | None, high: float | None) -> str:
    """Write an interval; a match of too few sources of text has none."""
    return "none" if low is None and high is None else f"{decimal(low)} to {decimal(high)}"


def _pair(
    row: Node,
    contexts: tuple[Node, Node],
    activations: tuple[Node | None, Node | None],
    bars: Bars,
) -> PairView:
    r, low, high = row.number("r"), row.maybe("ci_low"), row.maybe("ci_high")
    token_null, partial = row.maybe("token_null"), row.maybe("partial_token")
    loose = row.flag("ci_high_loose") and high is not None  # no interval has no upper end
    numbers = (
        ("r", decimal(r), "Pearson correlation on the documents that did not choose the pair"),
        (
            f"{bars.interval} interval",
            _interval(low, high) + (" or more" if loose else ""),
            "over sources of text"
            + (", the upper end from few co-firings or a few strong ones" if loose else ""),
        ),
        ("given token", decimal(partial), "correlation among segments of the same token"),
        ("token null", decimal(token_null), "expected r if only the token mattered"),
        ("margin", decimal(row.maybe("margin")), "lead over the next best partner"),
        _together(row),
    )
    a, b = (
        _feature(row.count(f"feature_{key}"), row.count(f"fires_{key}"), found, active)
        for key, found, active in zip("ab", contexts, activations, strict=True)
    )
    title = ", ".join(f"{name} {value}" for name, value, _ in numbers[:4])
    return PairView(
        a=a,
        b=b,
        ruler=Markup(
            ruler(
                r,
                r if low is None else low,
                r if high is None else high,
                token_null,
                partial,
                title,
            )
        ),
        numbers=numbers,
        explained_by=_explained_by(row),
        replicates=row.text("replicates"),
        beyond_token=row.text("beyond_token"),
    )


def _explained_by(row: Node) -> str:
    """Return what explains a pair; not the token where the pair was found to share more."""
    found = row.text("explained_by", "none")
    return "none" if found == "token" and row.text("beyond_token") == "yes" else found


def _feature(feature: int, reported: int, contexts: Node, activations: Node | None) -> FeatureView:
    """Return one side of a pair.

    Args:
        feature: its index.
        reported: segments of the report half on which it fires.
        contexts: places, of the whole probe, by feature.
        activations: how often and how strongly it fires on the whole probe, by feature; None where
            that was not kept.
    """
    fires = f"fires on {_segments(reported)} of the reporting half"
    histogram = Markup()
    if activations is not None and str(feature) in activations:
        own = activations.node(str(feature))
        fires = f"fires on {_segments(own.count('fires'))}, {reported:,} of the reporting half"
        counts = [round(count) for count in own.numbers("counts")]
        histogram = Markup(activation_bars(counts, own.number("highest")))
    found = contexts.nodes(str(feature)) if str(feature) in contexts else ()
    highest = max((node.number("value") for node in found), default=0.0)
    views = tuple(_context(node, highest) for node in found)
    return FeatureView(
        feature=feature,
        fires=fires,
        histogram=histogram,
        first=views[:_FIRST_CONTEXTS],
        more=views[_FIRST_CONTEXTS:],
    )


def _segments(count: int) -> str:
    return "1 segment" if count == 1 else f"{count:,} segments"


def _context(node: Node, highest: float) -> ContextView:
    cut, attention = node.numbers("cut"), Markup()
    if "attention" in node:
        looked = node.node("attention")
        attention = Markup(attention_rows(looked, tuple(map(clean, looked.texts("tokens")))))
    return ContextView(
        pieces=tuple(
            ShownPiece(
                text=clean(text),
                strength=round(100 * min(max(value / highest, 0.0), 1.0)) if highest > 0 else 0,
            )
            for text, value in node.runs("pieces")
        ),
        value=node.number("value"),
        cut_before=bool(cut[0]),
        cut_after=bool(cut[1]),
        attention=attention,
    )


def _short(model: str) -> str:
    """Return the part of a model's name that people say."""
    return model.rstrip("/").replace("packaged:", "").rsplit("/", 1)[-1] or model


def _about(count: float) -> str:
    """Write a mean count: whole from 10 on, else one place; none is 'no'."""
    if count >= 10:
        return f"{count:,.0f}"
    return f"{count:.1f}".rstrip("0").rstrip(".")
