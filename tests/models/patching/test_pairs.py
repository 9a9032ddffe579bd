"""Clean and corrupt texts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, Tokenizer, load_model
from isogloss.models.patching.pairs import (
    answer_id,
    greater_than_pairs,
    indirect_object_pairs,
    induction_pairs,
    text_pairs,
)


@pytest.fixture(scope="module")
def words() -> LoadedModel:
    """A model whose tokenizer has each word and each digit as a token."""
    import tokenizers
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    text = (
        "When Mary and John Tom Anna went to the store park , gave a drink book to The war siege "
        "lasted from year to the"
    )
    known = {word: i for i, word in enumerate(dict.fromkeys([*text.split(), *"0123456789", "?"]))}
    inside = tokenizers.Tokenizer(models.WordLevel(known, unk_token="?"))
    inside.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inside, unk_token="?")
    return LoadedModel(module=model().module, tokenizer=tokenizer, name="words")


def test_of_an_indirect_object_the_second_subject_is_changed(words: LoadedModel):
    found = indirect_object_pairs(words, 6, seed=1)
    assert len(found) == 6
    assert found.tokens[0] == "When"
    (second,) = found.changed
    for i in range(6):
        clean, corrupt = found.clean[i].tolist(), found.corrupt[i].tolist()
        assert clean[second] == found.wrong[i][0]
        assert corrupt[second] == found.right[i][0]
        assert {clean[1], clean[3]} == {found.right[i][0], found.wrong[i][0]}
        assert found.right[i][0] == clean[1]


def known(model: LoadedModel) -> Tokenizer:
    assert model.tokenizer is not None
    return model.tokenizer


def test_of_years_everything_above_is_right(words: LoadedModel):
    found = greater_than_pairs(words, 6, seed=1)
    vocabulary = {i: token for token, i in known(words).get_vocab().items()}
    start = found.tokens.index(" year") + 1 if " year" in found.tokens else 6
    for i in range(6):
        decade = int(vocabulary[int(found.clean[i, start + 2])])
        assert [int(vocabulary[t]) for t in found.right[i]] == list(range(decade + 1, 10))
        assert [int(vocabulary[t]) for t in found.wrong[i]] == list(range(decade))
    assert set(found.changed) <= {start + 2, start + 3}


def test_of_an_induction_the_earlier_place_is_changed():
    found = induction_pairs(model(), 5, tokens=12)
    for clean, corrupt, right in zip(found.clean, found.corrupt, found.right, strict=True):
        (place,) = (clean != corrupt).nonzero().flatten().tolist()
        assert clean[place] == clean[-1]
        assert clean[place + 1] == right[0]
        assert corrupt[-1] not in corrupt[:-1]


def test_pairs_are_the_same_for_the_same_seed_and_others_for_another(words: LoadedModel):
    for make in (indirect_object_pairs, greater_than_pairs, induction_pairs):
        one, again, other = (make(words, 8, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(one.clean, again.clean)
        assert not torch.equal(one.clean, other.clean)


def test_texts_of_your_own(words: LoadedModel):
    found = text_pairs(words, ["When Mary and"], ["When John and"], [" Tom"], [" Anna"])
    assert found.changed == (1,)
    assert found.right == ((answer_id(words, "Tom"),),)


def test_what_is_no_pair_is_refused(words: LoadedModel):
    texts = ["When Mary and"]
    for clean, corrupt, right, said in (
        (texts, ["When John"], [" Tom"], "'When John' has 2 tokens, the first 3"),
        (texts, texts, [" Tom"], "are the same"),
        (texts, ["When John and"], [" Tom Tom"], "is 2 tokens"),
        (texts, [], [" Tom"], "give as many of each"),
        (["When " * 40], ["and " * 40], [" Tom"], "the model reads"),
    ):
        named = replace(words, module=model("gpt2").module) if "reads" in said else words
        with pytest.raises(InvalidInput, match=said):
            text_pairs(named, clean, corrupt, right, [" Anna"])
    with pytest.raises(InvalidInput, match="has no tokenizer"):
        text_pairs(model(), texts, texts, [1], [2])
    with pytest.raises(InvalidInput, match="has no tokenizer"):
        indirect_object_pairs(model(), 2)
    with pytest.raises(InvalidInput, match="wanted 1 of 4"):
        induction_pairs(model(), 2, tokens=3)
    with pytest.raises(InvalidInput, match="wanted 1 at least"):
        indirect_object_pairs(words, 0)


def test_one_text_in_the_place_of_a_list_is_not_taken_for_its_letters(words: LoadedModel):
    unchecked: Any = getattr(text_pairs, "__wrapped__", text_pairs)
    given: dict[str, object] = {
        "clean": ["When Mary and"], "corrupt": ["When John and"], "right": [" Tom"],
        "wrong": [" Anna"],
    }  # fmt: skip
    for name in given:
        with pytest.raises(InvalidInput, match=f"{name} is the string 'ab'; give a list"):
            unchecked(words, **{**given, name: "ab"})


def test_a_tokenizer_that_splits_names_says_what_to_do(tiny_gpt2: Path):
    with pytest.raises(InvalidInput, match="text_pairs"):
        indirect_object_pairs(load_model(str(tiny_gpt2), causal=True), 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corrupt": torch.zeros(2, 5, dtype=torch.int64)}, "differ in number or length"),
        ({"right": ((7,),)}, "give one each"),
        ({"right": ((7,), ())}, "no right or no wrong token"),
    ],
)
def test_pairs_check_themselves(change: dict[str, Any], said: str):
    with pytest.raises(InvalidInput, match=said):
        replace(pairs(), **change)
