"""Print a match as text for a terminal."""

from typing import Literal

import numpy as np

from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.result import Match, MatchedDictionary
from isogloss.universality.nulls.labels import LabelName
from isogloss.universality.nulls.shuffles import LEVELS

_SAID: tuple[LabelName, ...] = ("yes", "no", "undecided")

_NULL_NAMES = {
    "none": "free null",
    "token": "token null",
    "position": "position null",
    "document": "document null",
    "token_position": "both null",
}


def summary_text(match: Match) -> str:
    """Return what a match says, as text of at most 100 columns for a terminal."""
    lines = [
        f"{match.a.dictionary} x {match.b.dictionary} on probe {match.on.probe}",
        _probe_line(match),
        *(_side_line(side, match.settings.min_fires) for side in (match.a, match.b)),
        f"  {len(match.pairs):,} mutual pairs replicate: {_labels(match.pairs, 'replicates')}",
        "",
        *_table(match),
        *_wrapped(
            "A null is the mean number of pairs found when each segment of one model takes another "
            "one: any, or one of the same token, position or document."
        ),
        "",
        *_token_lines(match),
    ]
    if match.cautions:
        lines += ["", "Cautions"]
        for caution in match.cautions:
            lines += _wrapped(f"{caution.code}: {caution.message}")
    return "\n".join(lines)


def _probe_line(match: Match) -> str:
    segments, documents = match.on.segments, match.on.documents
    return (
        f"  pairs chosen on {segments[0]:,} segments of {documents[0]:,} documents, "
        f"reported on {segments[1]:,} of {documents[1]:,} ({match.on.sources[1]:,} sources)"
    )


def _side_line(side: MatchedDictionary, min_fires: int) -> str:
    return (
        f"  {side.dictionary}: {side.features:,} features, {len(side.compared):,} compared, "
        f"{side.rare:,} fire on fewer than {min_fires} segments, {side.dead:,} on none"
    )


def _table(match: Match) -> list[str]:
    names = [_NULL_NAMES[null.key] for null in match.nulls]
    header = ["pairs with", "shared", "replicate", *names, "beyond token"]
    rows = [header]
    for level in LEVELS:
        chosen = match.pairs.r >= level
        at = np.array([level])
        rows.append(
            [
                f"r >= {level:.1f}",
                f"{int(chosen.sum()):,}",
                f"{int((chosen & match.pairs.replicates_is('yes')).sum()):,}",
                *(f"{null.shared(at)[0]:,.0f}" for null in match.nulls),
                f"{int((chosen & match.pairs.beyond_token_is('yes')).sum()):,}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _labels(pairs: Pairs, name: Literal["replicates", "beyond_token"]) -> str:
    """Count the labels of a column, in words."""
    is_label = pairs.replicates_is if name == "replicates" else pairs.beyond_token_is
    return ", ".join(f"{int(is_label(label).sum()):,} {label}" for label in _SAID)


def _token_lines(match: Match) -> list[str]:
    shared = match.pairs.take(np.flatnonzero(match.pairs.r >= LEVELS[0]))
    if not len(shared):
        return [f"  No pair reaches r >= {LEVELS[0]}: nothing to explain."]
    known = shared.token_null[np.isfinite(shared.token_null)]
    text = (
        f"Of the {len(shared):,} pairs with r >= {LEVELS[0]}, the token alone gives a median r of "
        f"{np.median(known):.2f} (observed {np.median(shared.r):.2f}). "
        if known.size
        else f"For none of the {len(shared):,} pairs with r >= {LEVELS[0]} do tokens recur enough "
        "to say what the token gives. "
    )
    return _wrapped(
        text + "Do they share more than which word stands there (beyond token)? "
        f"{_labels(shared, 'beyond_token')}; of all pairs at most {match.chance:.1f} are expected "
        "to pass by chance."
    )


def _wrapped(text: str, width: int = 96) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(f"  {line}")
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, f"  {line}"]
