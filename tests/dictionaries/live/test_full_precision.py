import torch

from isogloss.dictionaries.live.full_precision import full_precision


def test_products_keep_their_dtype_within_autocast_and_lose_it_again_behind() -> None:
    a = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision(a):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16
