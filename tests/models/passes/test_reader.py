"""Reading the forward passes of a live module."""

import numpy as np
import torch
from torch import Tensor, nn

from isogloss.models.passes.reader import PassReader, PassRows


class Tiny(nn.Module):
    """A layer over an embedding; takes what Hugging Face models take."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = nn.Embedding(50, 12)
        self.layer = nn.Linear(12, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.layer(self.embedding(input_ids))


def test_a_pass_gives_the_rows_of_its_tokens_without_padding_and_special_tokens() -> None:
    model, seen, errors = Tiny(), list[PassRows](), list[Exception]()
    ids = torch.tensor([[1, 7, 8, 2], [1, 9, 2, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    reader = PassReader(
        model, ["layer"], take=seen.append, leave_out=errors.append, special_ids=(1, 2)
    )
    with reader:
        out = model(input_ids=ids, attention_mask=mask)
    model(input_ids=ids)
    (rows,) = seen
    assert not errors
    assert rows.token_id.tolist() == [7, 8, 9]
    assert rows.document_index.tolist() == [0, 0, 1]
    assert [document.tolist() for document in rows.documents] == [[1, 7, 8, 2], [1, 9, 2]]
    wanted = torch.stack([out[0, 1], out[0, 2], out[1, 1]])
    np.testing.assert_array_equal(rows.sites["layer"].numpy(), wanted.detach().numpy())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
