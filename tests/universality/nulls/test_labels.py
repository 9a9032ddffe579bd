"""Labels are yes, no or undecided."""

import numpy as np

from isogloss.universality.nulls.labels import LABELS, label_names, labelled


def test_a_failure_is_a_no_only_where_it_says_something() -> None:
    passes = np.array([True, True, False, False])
    enough = np.array([True, False, True, True])
    decisive = np.array([True, False, True, False])
    found = labelled(passes, enough, decisive)
    assert label_names(found) == ["yes", "undecided", "no", "undecided"]
    assert found.dtype == np.int8
    assert LABELS == ("no", "yes", "undecided")
