"""Print a match as text for a terminal."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.references import Reference, check_references
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


def summary_text(match: Match, references: Sequence[Reference] = ()) -> str:
    """Return what a match says, as text of at most 100 columns for a terminal.

    Args:
        match: the match.
        references: ceilings and floors, whose numbers stand beside.

    Returns:
        Lines without a final line break.

    Raises:
        InvalidInput: see :func:`isogloss.universality.check_references`.
    """
    check_references(match, references)
    lines = [
        f"{match.a.dictionary} x {match.b.dictionary} on probe {match.on.probe}",
        _probe_line(match),
        *(_side_line(side, match.settings.min_fires) for side in (match.a, match.b)),
        f"  {len(match.pairs):,} mutual pairs replicate: {_labels(match.pairs, 'replicates')}",
        "",
        *_table(match),
        *_reference_lines(match, references),
        *_wrapped(
            "A null is the mean number of pairs found when each segment of one model takes another "
            "one: any, or one of the same token, position or document."
        ),
        "",
        *_token_lines(match),
    ]
    lines += [*_assignment_lines(match), *_subset_lines(match)]
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


def _reference_lines(match: Match, references: Sequence[Reference]) -> list[str]:
    """Return a table of what replicates here, in the ceilings and in the floors."""
    if not references:
        return ["  No ceiling and no floor stands beside these numbers (see ceilings=, floors=)."]
    rows = [["replicate with", *(f"r >= {level:.1f}" for level in LEVELS), "mean best r"]]
    named = [("this match", match), *((f"{one.role}: {one.what}", one.match) for one in references)]
    for name, found in named:
        good = found.pairs.replicates_is("yes")
        counts = [int((good & (found.pairs.r >= level)).sum()) for level in LEVELS]
        rows.append([name, *(f"{count:,}" for count in counts), f"{found.a.mean_best[0]:.3f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]


def _assignment_lines(match: Match) -> list[str]:
    found, decoders = match.one_to_one, match.decoders
    if found is None:
        return []
    counts = ", ".join(f"{int((found.r >= level).sum()):,} with r >= {level}" for level in LEVELS)
    text = (
        f"Assigned one to one: {len(found.r):,} pairs, of which {int(found.mutual.sum()):,} are "
        f"mutual; {counts}."
    )
    if decoders is not None:
        text += (
            f" Decoder rows assigned one to one have mean cosine {decoders.value:.3f}; with one "
            f"decoder rotated at random {decoders.null:.3f} (sd {decoders.null_spread:.3f})."
        )
    return ["", *_wrapped(text)]


def _subset_lines(match: Match) -> list[str]:
    lines: list[str] = []
    sides = ((match.split, match.a, match.b), (match.merged, match.b, match.a))
    for found, own, other in sides:
        if found is None:
            continue
        level = LEVELS[1]
        together, single, nulls = found.shared(level)
        beside = ", ".join(f"{_NULL_NAMES[key]} {count:,}" for key, count in nulls.items())
        lines += _wrapped(
            f"Of {len(found.r2):,} features of {own.dictionary}, {together:,} reach r >= {level} "
            f"by up to {found.members.shape[1]} features of {other.dictionary} together, "
            f"{single:,} by one ({beside})."
        )
    return lines


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
