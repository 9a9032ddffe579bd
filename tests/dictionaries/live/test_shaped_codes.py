import torch

from isogloss.dictionaries.live.shaped_codes import ShapedCodes
from isogloss.kernels import Codes


def test_entries_of_value_zero_that_share_a_feature_add_nothing() -> None:
    codes = Codes(
        values=torch.tensor([[2.0, 0.0, 0.0]]),
        indices=torch.tensor([[0, 0, 0]], dtype=torch.int32),
        features=3,
    )
    shaped = ShapedCodes(codes=codes, shape=(1,), dtype=torch.float32)
    assert shaped.dense().tolist() == [[2.0, 0.0, 0.0]]


def test_ragged_codes_go_to_their_rows_and_send_gradients_back() -> None:
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    codes = Codes(
        values=values,
        indices=torch.tensor([1, 0, 2], dtype=torch.int32),
        features=3,
        offsets=torch.tensor([0, 1, 1, 3]),
    )
    shaped = ShapedCodes(codes=codes, shape=(3, 1), dtype=torch.bfloat16)
    dense = shaped.dense()
    assert dense.dtype == torch.bfloat16
    assert dense.tolist() == [[[0, 1, 0]], [[0, 0, 0]], [[2, 0, 3]]]
    (dense.float() * torch.arange(9.0).reshape(3, 1, 3)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 6.0, 8.0]


def test_printing_codes_names_shapes_alone() -> None:
    codes = Codes(values=torch.ones(2, 3), indices=torch.zeros(2, 3, dtype=torch.int32), features=9)
    text = repr(ShapedCodes(codes=codes, shape=(2,), dtype=torch.float16))
    assert text == "ShapedCodes(shape=[2], features=9, entries=6, dtype=torch.float16)"
