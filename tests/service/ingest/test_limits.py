"""Limits of ingest that contradict one another."""

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.ingest.limits import IngestLimits


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part_bytes": 0}, "must grow"),
        ({"part_bytes": 10, "batch_bytes": 9}, "part 10, batch 9"),
        ({"batch_bytes": 1 << 30}, "must grow"),
        ({"window_bytes": 0}, "positive"),
        ({"group_bytes": 0}, "positive"),
        ({"sessions": 0}, "positive"),
    ],
)
def test_limits_that_contradict_one_another_are_refused(
    given: dict[str, int], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        IngestLimits(**given)
