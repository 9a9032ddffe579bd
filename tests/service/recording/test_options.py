"""Options of a recorder."""

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.recording.options import RecorderOptions
from isogloss.service.recording.tally import Tally


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("on_full", "spill", "on_full"),
        ("queue_bytes", 0, "queue_bytes"),
        ("batch_rows", 0, "batch_rows"),
        ("every", 0, "every"),
        ("wait_s", 0.0, "wait_s"),
        ("wait_s", float("nan"), "wait_s"),
        ("sample", 0.0, "sample"),
        ("sample", 1.5, "sample"),
    ],
)
def test_options_that_cannot_be_are_refused(setting: str, value: object, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        RecorderOptions(**{setting: value})  # type: ignore[arg-type]


def test_a_recorder_that_is_told_nothing_holds_256_mib_and_waits_five_minutes() -> None:
    options = RecorderOptions()
    assert (options.queue_bytes, options.wait_s) == (256 * 1024**2, 300.0)
    assert (options.on_full, options.sample, options.every) == ("block", 1.0, 1)


def test_failed_passes_are_those_that_were_left_out() -> None:
    tally = Tally()
    for reason in ("one", "one", "two"):
        tally.leave_out(ValueError(reason))
    assert tally.counts().failed_passes == 3
