"""A revision is named by its lanes and rows."""

import pytest

from isogloss.errors import (
    InvalidInput,
)
from isogloss.store import Revision


def test_a_revision_is_named_by_its_rows() -> None:
    one = Revision(recording="r", lanes=(("a", 3), ("b", 4)))
    assert one.rows == 7
    assert Revision.from_dict(one.to_dict()) == one
    assert one.id == Revision(recording="r", lanes=(("a", 3), ("b", 4))).id
    assert one.id != Revision(recording="r", lanes=(("a", 3), ("b", 5))).id
    with pytest.raises(InvalidInput, match="at least one row"):
        Revision(recording="r", lanes=(("a", 0),))
    with pytest.raises(InvalidInput, match="not \\[name, rows\\]"):
        Revision.from_dict({**one.to_dict(), "lanes": [["a"]]})
