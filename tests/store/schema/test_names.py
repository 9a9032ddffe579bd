"""Ids, uids and lane names can never be paths."""

import pytest

from isogloss.errors import (
    InvalidName,
)
from isogloss.store.testing import sample_spec


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", "1st", "a" * 64, "a b", "a\n"])
def test_a_recording_id_never_is_a_path(name: str) -> None:
    with pytest.raises(InvalidName, match=r"a-z"):
        sample_spec(name)
