"""The summary says what the match holds."""

from dataclasses import replace

import numpy as np

from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.summary import summary_text


def test_the_summary_names_both_sides_the_counts_and_the_cautions(mixed: Match) -> None:
    text = summary_text(mixed)
    assert summary_text(mixed) == text
    assert text.startswith("left x right on probe synthetic")
    shared = int((mixed.pairs.r >= 0.5).sum())
    line = next(line for line in text.splitlines() if "r >= 0.5" in line)
    assert line.split()[3] == str(shared)
    assert "token null" in text
    assert "beyond token" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    for caution in mixed.cautions:
        assert f"{caution.code}: " in text


def test_the_summary_says_on_what_and_of_how_many(found: Match) -> None:
    on = replace(found.on, segments=(110, 220), documents=(33, 44), sources=(5, 66))
    compared = len(found.a.compared)
    a = replace(found.a, features=compared + 9, dead=5)
    lines = summary_text(replace(found, on=on, a=a)).splitlines()
    assert lines[1] == (
        "  pairs chosen on 110 segments of 33 documents, reported on 220 of 44 (66 sources)"
    )
    assert lines[2] == (
        f"  left: {compared + 9} features, {compared} compared, 4 fire on fewer than 20 segments, "
        "5 on none"
    )
    replicate = int(found.pairs.replicates_is("yes").sum())
    assert lines[4] == (
        f"  {len(found.pairs)} mutual pairs replicate: {replicate} yes, "
        f"{len(found.pairs) - replicate} no, 0 undecided"
    )


def test_the_summary_says_what_the_token_gives(mixed: Match) -> None:
    text = " ".join(summary_text(mixed).split())
    shared = mixed.pairs.take(np.flatnonzero(mixed.pairs.r >= 0.3))
    known = shared.token_null[np.isfinite(shared.token_null)]
    assert (
        f"Of the {len(shared)} pairs with r >= 0.3, the token alone gives a median r of "
        f"{np.median(known):.2f} (observed {np.median(shared.r):.2f})."
    ) in text
    yes = int(shared.beyond_token_is("yes").sum())
    assert f"(beyond token)? {yes} yes, " in text
    assert f"of all pairs at most {mixed.chance:.1f} are expected to pass by chance" in text
    weak = replace(mixed, pairs=mixed.pairs.take(np.flatnonzero(mixed.pairs.r < 0.3)))
    assert "No pair reaches r >= 0.3: nothing to explain." in summary_text(weak)
    none = Pairs.from_columns({**shared.columns(), "token_null": np.full(len(shared), np.nan)})
    assert f"For none of the {len(shared)} pairs with r >= 0.3 do tokens recur" in " ".join(
        summary_text(replace(mixed, pairs=none)).split()
    )
