"""What a device would compile is counted; its first tests wait for little compilation."""

import pytest
import torch

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

from isogloss.kernels import encode_topk, sparse_gradients  # noqa: E402 (after the check above)
from isogloss.kernels.testing import exact, properties  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter  # noqa: E402
from isogloss.kernels.testing.variants import compiling  # noqa: E402


def test_the_first_test_on_a_device_compiles_few_variants() -> None:
    """``test_every_encoder_is_exact_on_the_device``: once it compiled 208, for 350 seconds."""
    with interpreter(), compiling() as found:
        for n, rows in enumerate((2, 16, 33, 48)):
            inputs = properties.draw(properties.KINDS[n], rows, 16, 130, n)
            list(exact.encoders(inputs, 9, torch.float32, "cpu"))
    assert {"_candidates_kernel", "_fire_kernel", "_two_candidates_kernel"} <= set(found)
    assert sum(len(variants) for variants in found.values()) <= 20, dict(found)


def test_another_number_of_rows_compiles_no_kernel_that_multiplies_anew() -> None:
    """A loader's last batch is shorter; a kernel in tiles takes seconds to compile."""
    weight, bias = torch.randn(1000, 16), torch.zeros(1000)
    with interpreter(), compiling() as found:
        for rows in (16, 15, 1):
            x = torch.randn(rows, 16)
            codes = encode_topk(x, weight, bias, 9)
            sparse_gradients(codes, x, x, weight)
    assert len(found["_candidates_kernel"]) == len(found["_again_kernel"]) == 1
    assert len(found["_features_kernel"]) == 1


def test_types_constants_and_what_triton_assumes_of_numbers_make_variants() -> None:
    weight, bias = torch.randn(40, 16), torch.zeros(40)

    def variants(*calls: tuple[torch.Tensor, torch.Tensor, int]) -> int:
        with interpreter(), compiling() as found:
            for x, directions, k in calls:
                encode_topk(x, directions, bias, k)
        return len(found["_select_kernel"]) + len(found["_candidates_kernel"])

    x = torch.randn(4, 16)
    assert variants((x, weight, 3)) == variants((x, weight, 3), (x + 1, weight, 3)) == 2
    assert variants((x, weight, 3), (x.bfloat16(), weight.bfloat16(), 3)) == 3
    assert variants((x, weight, 1), (x, weight, 3)) > 2
