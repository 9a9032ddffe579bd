"""Counts of a recorder."""

import pytest

from isogloss.service.recording.options import SampleRate
from isogloss.service.recording.tally import Tally


def test_reasons_are_counted_without_their_numbers_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally = Tally()
    for number in (3, 40, 500):
        tally.leave_out(ValueError(f"site gave {number} tokens"))
    tally.leave_out(KeyError())
    assert tally.counts().left_out == {"site gave N tokens": 3, "KeyError": 1}
    examples = {"site gave N tokens": "site gave 3 tokens", "KeyError": "KeyError"}
    assert tally.counts().examples == examples
    assert caplog.text.count("site gave") == 1
    assert "site gave 3 tokens" in caplog.text


def test_there_are_no_more_reasons_than_can_be_read() -> None:
    tally = Tally()
    for number in range(200):
        tally.leave_out(ValueError("x" * number))
    found = tally.counts().left_out
    assert len(found) <= 65
    assert sum(found.values()) == 200
    assert found["other reasons"] == 136
    assert tally.counts().examples.keys() == found.keys()


def test_overflows_are_counted_by_site_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    tally.overflow("a", 2, "float16")
    tally.overflow("a", 3, "float16")
    tally.overflow("b", 1, "float16")
    assert tally.counts().overflows == {"a": 5, "b": 1}
    assert caplog.text.count("site 'a'") == caplog.text.count("site 'b'") == 1


def test_counts_do_not_change_once_taken() -> None:
    tally = Tally()
    tally.add("rows", 5)
    tally.rate(SampleRate(share=0.5))
    before = tally.counts()
    tally.add("rows", -2)
    tally.rate(SampleRate(share=0.25, first_document=7))
    assert (before.rows, [rate.share for rate in before.rates]) == (5, [0.5])
    assert (tally.counts().rows, tally.counts().rates[-1].first_document) == (3, 7)
