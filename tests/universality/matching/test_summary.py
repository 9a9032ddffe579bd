"""The summary says what the match holds."""

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
