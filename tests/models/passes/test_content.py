"""Rows, documents and positions of a pass."""

import pytest
import torch

from isogloss.errors import InvalidInput
from isogloss.models.passes.content import SpecialTokens, refuse_packed
from isogloss.models.passes.inputs import Arguments


def test_positions_count_the_rows_of_a_document_wherever_it_stands():
    ids = torch.tensor([[1, 7, 8, 9, 2], [0, 0, 1, 7, 8], [7, 1, 8, 0, 0], [1, 2, 0, 0, 0]])
    tokens = SpecialTokens([1, 2]).tokens(ids, ids != 0)
    assert tokens.token_id.tolist() == [7, 8, 9, 7, 8, 7, 8]
    assert tokens.position.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert tokens.document_index.tolist() == [0, 0, 0, 1, 1, 2, 2]
    # what names a document: special tokens are kept, and one without a row is not there
    assert [d.tolist() for d in tokens.documents] == [[1, 7, 8, 9, 2], [1, 7, 8], [7, 1, 8]]


def test_an_id_that_is_no_token_is_refused_unless_it_is_masked():
    ids = torch.tensor([[7, -200, 8]])
    with pytest.raises(InvalidInput, match="from -200 to 8"):
        SpecialTokens([]).tokens(ids, torch.ones_like(ids, dtype=torch.bool))
    assert SpecialTokens([]).tokens(ids, ids > 0).token_id.tolist() == [7, 8]


def test_texts_packed_into_one_sequence_are_refused():
    keep = torch.ones(2, 5, dtype=torch.bool)

    def check(**named: object) -> None:
        refuse_packed(Arguments(named=named, ids_by_name=True), keep)

    check()
    check(position_ids=torch.arange(5)[None])
    check(position_ids=torch.arange(2, 7).expand(2, -1))
    check(position_ids=torch.arange(5).expand(3, 2, 5))  # of images: time, height, width
    with pytest.raises(InvalidInput, match="position_ids says that texts are packed"):
        check(position_ids=torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]))
    with pytest.raises(InvalidInput, match="cu_seq_lens_q says"):
        check(cu_seq_lens_q=torch.tensor([0, 3, 5]))
    keep[0, 3:] = False
    check(position_ids=torch.tensor([[0, 1, 2, 0, 0], [0, 1, 2, 3, 4]]))
