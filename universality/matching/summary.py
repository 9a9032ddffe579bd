"""Print a match as text for a terminal."""

import numpy as np

from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.result import Match, MatchedDictionary

LEVELS = (0.3, 0.5, 0.7)
"""The r at which the summary counts pairs."""

BEYOND_TOKEN = 0.3
"""Partial correlation given the token from which a pair is more than its token."""

_NULL_NAMES = {
    "none": "free null",
    "token": "token null",
    "position": "position null",
    "document": "document null",
}


def summary_text(match: Match) -> str:
    """Return what a match says, as text of at most 100 columns for a terminal."""
    lines = [
        f"{match.a.dictionary} x {match.b.dictionary} on probe {match.on.probe}",
        _probe_line(match),
        *(_side_line(side, match.settings.min_fires) for side in (match.a, match.b)),
        f"  {len(match.pairs):,} mutual pairs, {int(match.pairs.replicated.sum()):,} replicated",
        "",
        *_table(match),
        *_wrapped(
            "A null is the number of pairs found after the segments of one model are shuffled: "
            "freely, or only among those of the same token, position or document."
        ),
        "",
        *_token_lines(match.pairs),
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
        f"reported on {segments[1]:,} of {documents[1]:,}"
    )


def _side_line(side: MatchedDictionary, min_fires: int) -> str:
    return (
        f"  {side.dictionary}: {side.features:,} features, {len(side.compared):,} compared, "
        f"{side.rare:,} fire on fewer than {min_fires} segments, {side.dead:,} on none"
    )


def _table(match: Match) -> list[str]:
    names = [_NULL_NAMES[null.key] for null in match.nulls]
    header = ["pairs with", "shared", "replicated", *names, "beyond token"]
    rows = [header]
    for level in LEVELS:
        chosen = match.pairs.r >= level
        at = np.array([level])
        beyond = int((chosen & (match.pairs.partial_token >= BEYOND_TOKEN)).sum())
        rows.append(
            [
                f"r >= {level:.1f}",
                f"{int(chosen.sum()):,}",
                f"{int((chosen & match.pairs.replicated).sum()):,}",
                *(f"{null.shared(at)[0]:,.0f}" for null in match.nulls),
                f"{beyond:,}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _token_lines(pairs: Pairs) -> list[str]:
    shared = pairs.take(np.flatnonzero(pairs.r >= LEVELS[0]))
    if not len(shared):
        return [f"  No pair reaches r >= {LEVELS[0]}: nothing to explain."]
    known = shared.partial_token[np.isfinite(shared.partial_token)]
    text = (
        f"Of the {len(shared):,} pairs with r >= {LEVELS[0]}, the token alone gives a median r of "
        f"{np.median(shared.token_null):.2f} (observed {np.median(shared.r):.2f}). "
    )
    if not known.size:
        return _wrapped(text + "None varies among segments of the same token.")
    beyond = int((known >= BEYOND_TOKEN).sum())
    return _wrapped(
        text + f"Among segments of the same token their median correlation is "
        f"{np.median(known):.2f}; for {beyond:,} it is at least {BEYOND_TOKEN} (beyond "
        "token): these share more than which word stands there."
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
