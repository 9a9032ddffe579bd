"""The mode in which a live model runs."""

import pytest
from torch import nn

from isogloss.errors import InvalidInput
from isogloss.models.passes.mode import ModelMode, check_mode, dropout


class Functional(nn.Module):
    """Keeps its dropout as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_dropout = 0.25
        self.layer = nn.Dropout(0.1)


def test_the_largest_dropout_counts_whether_a_layer_or_a_number() -> None:
    assert dropout(nn.Linear(2, 2)) == 0
    assert dropout(nn.Sequential(nn.Dropout(0.1), nn.AlphaDropout(0.3))) == 0.3
    assert dropout(Functional()) == 0.25


def test_a_recording_has_the_mode_of_its_first_pass() -> None:
    mode = ModelMode(Functional(), None)
    mode.check(is_training=True)
    assert mode.seen(is_training=False) == {"mode": "train", "dropout": "0.25"}
    with pytest.raises(InvalidInput, match="eval mode and the recording holds passes in train"):
        mode.check(is_training=False)
    assert ModelMode(Functional(), None).seen(is_training=False) == {"mode": "eval", "dropout": "0"}


def test_a_recording_that_exists_says_which_mode_it_has() -> None:
    known = ModelMode(Functional(), {"mode": "eval", "dropout": "0", "other": "x"})
    known.check(is_training=False)
    with pytest.raises(InvalidInput, match="another id"):
        known.check(is_training=True)
    ModelMode(Functional(), {"other": "x"}).check(is_training=True)


def test_passes_with_another_dropout_than_the_recordings_are_refused() -> None:
    known = ModelMode(Functional(), {"mode": "train", "dropout": "0.5"})
    with pytest.raises(InvalidInput, match=r"dropout of 0.25 and the recording .* with 0.5"):
        known.check(is_training=True)
    ModelMode(Functional(), {"mode": "train", "dropout": "0.25"}).check(is_training=True)
    own = Functional()
    first = ModelMode(own, None)
    first.check(is_training=True)
    own.attention_dropout = 0.5  # a schedule within one recording is its own
    first.check(is_training=True)


def test_two_modes_are_compared_where_both_are_known() -> None:
    check_mode({"mode": "eval", "dropout": "0"}, {"mode": "eval", "dropout": "0", "call": "1"})
    check_mode({}, {"mode": "eval"})
    check_mode({"mode": "eval"}, {})
    with pytest.raises(InvalidInput, match="another id"):
        check_mode({"mode": "train", "dropout": "0"}, {"mode": "eval", "dropout": "0"})
