import pytest
import torch
from torch import Tensor, nn

from isogloss.models import begins_with, watch_first_ids


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token_table, self.position_embeddings = nn.Embedding(9, 4), nn.Embedding(9, 4)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])[None]
        return self.position_embeddings(places) + self.token_table(ids)


def test_the_ids_of_the_first_pass_are_handed_over_once() -> None:
    model, seen = Reader(), list[Tensor]()
    with watch_first_ids(model, seen.append):
        model(torch.tensor([[1, 2]]))
        model(torch.tensor([[3, 4]]))
    model(torch.tensor([[5, 6]]))
    assert [ids.tolist() for ids in seen] == [[[1, 2]]]
    assert not model.token_table._forward_pre_hooks


def test_a_model_that_embeds_no_tokens_hands_over_nothing() -> None:
    seen: list[Tensor] = []
    layers = nn.Sequential(nn.Linear(2, 2))
    with watch_first_ids(layers, seen.append):
        layers(torch.zeros(1, 2))
    assert seen == []


@pytest.mark.parametrize(
    ("ids", "begins"),
    [
        ([0, 5, 6], True),
        ([5, 6, 0], False),
        ([9, 9, 0, 5], True),  # padding before the text
        ([0, 0, 0, 5], True),  # which may be the beginning token itself
        ([9, 9, 5], False),
        ([0], True),
        ([5], False),
    ],
)
def test_a_text_begins_behind_its_padding(ids: list[int], begins: bool) -> None:
    assert begins_with(torch.tensor([ids]), [0]) is begins


def test_each_text_must_begin_so_and_with_all_tokens() -> None:
    assert not begins_with(torch.tensor([[0, 1], [1, 2]]), [0])
    assert begins_with(torch.tensor([[3, 4, 1], [9, 3, 4]]), [3, 4])
    assert not begins_with(torch.tensor([[3, 1, 1]]), [3, 4])
