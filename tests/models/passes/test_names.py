"""What names say."""

import pytest

from isogloss.models.passes import names


@pytest.mark.parametrize("name", ["token_type_ids", "tokenTypeIDs", "tokenTypeIds2"])
def test_names_have_the_same_words_however_they_are_joined(name: str) -> None:
    assert names.words(name)[:2] == ["token", "type"]
    assert names.is_no_token(name)
    assert not names.is_ids(name)


def test_arguments_are_told_apart_by_their_words() -> None:
    assert all(map(names.is_ids, ("src", "input_ids", "docTokens", "idx", "x")))
    assert not any(map(names.is_ids, ("pixel_values", "position_ids", "y", "tgt_mask")))
    assert names.is_mask("srcMask")
    assert not names.is_mask("unmasked")
    assert names.is_not_read("gold_labels")
    assert not names.is_not_read("labelled_text")


def test_tables_of_tokens_are_told_from_others_by_path_and_class() -> None:
    assert not names.is_feature_table("wte", "Embedding")
    assert not names.is_feature_table("model.words", "Embedding")
    assert names.is_feature_table("token_type_embeddings", "Embedding")
    assert names.is_feature_table("position.table", "Embedding")
    assert names.is_feature_table("rows", "PositionalEmbedding")
