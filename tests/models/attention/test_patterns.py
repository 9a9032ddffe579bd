"""Patterns of heads on a text."""

import numpy as np
import pytest
from tests.models.elements.families import IDS, family, own_patterns
from torch import nn

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel
from isogloss.models.attention import patterns
from isogloss.models.attention.patterns import Head, attention_patterns, read_head

MODEL = LoadedModel(module=family("llama"), name="tiny")
TEXT = IDS[0].tolist()


def test_patterns_are_those_of_the_model_in_the_order_asked_for():
    wanted = [Head(layer=1, head=3), Head(layer=0, head=0)]
    found = attention_patterns(MODEL, TEXT, wanted)
    assert found.heads == tuple(wanted)
    own = own_patterns(MODEL.module)
    np.testing.assert_allclose(found.values[0], own[1][0, 3], atol=1e-6)
    np.testing.assert_allclose(found.values[1], own[0][0, 0], atol=1e-6)


def test_without_heads_all_are_read():
    assert len(attention_patterns(MODEL, TEXT).heads) == 8


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ([Head(layer=2, head=0)], "layers 0 to 1"),
        ([Head(layer=0, head=4)], "layer 0 has heads 0 to 3"),
        ([], "name at least one"),
    ],
)
def test_heads_that_are_not_there_are_refused(heads: list[Head], said: str):
    with pytest.raises(InvalidInput, match=said):
        attention_patterns(MODEL, TEXT, heads)


def test_patterns_that_no_memory_holds_are_refused_before_any_pass(monkeypatch: pytest.MonkeyPatch):
    passes: list[object] = []

    def note(module: nn.Module, given: object) -> None:
        passes.append(given)

    handle = MODEL.module.register_forward_pre_hook(note)
    monkeypatch.setattr(patterns, "_MOST_HELD", 4 * 9)  # of one layer of four heads, 3 tokens
    try:
        assert attention_patterns(MODEL, [1, 2, 3], [Head(layer=0, head=1)]).values.shape[1] == 3
        passes.clear()
        for text, heads in (([1, 2, 3], None), ([1, 2, 3, 4], [Head(layer=0, head=1)])):
            with pytest.raises(InvalidInput, match="give a shorter text"):
                attention_patterns(MODEL, text, heads)
        assert not passes
    finally:
        handle.remove()


def test_a_model_without_known_heads_is_refused():
    with pytest.raises(InvalidInput, match="no attention module whose heads are known"):
        attention_patterns(LoadedModel(module=nn.Linear(2, 2), name="plain"), [1])


def test_a_head_is_read_as_people_write_it():
    assert read_head("18.6") == Head(layer=18, head=6)
    assert str(Head(layer=18, head=6)) == "18.6"
    for wrong in ("18", "18.", "a.b", "18.-1", "1.2.3"):
        with pytest.raises(InvalidInput, match=r"LAYER\.HEAD"):
            read_head(wrong)
