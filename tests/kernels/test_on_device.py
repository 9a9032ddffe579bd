"""Every operation on a real device, to the bit: ``pytest -m gpu``, skipped without one.

Shapes are few, because each number of features or entries is compiled anew; rows are drawn.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.kernels import (
    Codes,
    debugging,
    decode,
    decode_loss,
    encode_topk,
    reference,
    sparse_gradients,
)

triton = pytest.importorskip("triton")

from isogloss.kernels.testing import exact, properties, steps  # noqa: E402 (after the check above)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA or ROCm device: torch sees none"
    ),
    pytest.mark.skipif(triton.knobs.runtime.interpret, reason="triton interprets here"),
]
FINITE = [kind for kind in properties.KINDS if kind not in properties.NON_FINITE]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1, 1), (16, 130, 9), (77, 1000, 40))
"""Width, features and k."""
SIZES = {"rows": st.integers(2, 300), "seed": st.integers(0, 9999)}
MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@MANY
@given(kind=st.sampled_from(properties.KINDS[:-1]), **SIZES)
def test_every_encoder_is_exact_on_the_device(
    shape: tuple[int, int, int], dtype: torch.dtype, kind: str, rows: int, seed: int
) -> None:
    """``encode_topk``, threshold, batch top-k and AuxK, their ties, NaN rows and repairs."""
    width, features, k = shape
    inputs = properties.draw(kind, rows, width, features, seed)
    assert exact.differing(exact.encoders(inputs, k, dtype, "cuda"))[1] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@MANY
@given(kind=st.sampled_from(FINITE), **SIZES)
def test_decoders_prefixes_and_every_gradient_equal_float64_on_the_device(
    shape: tuple[int, int, int], ragged: bool, dtype: torch.dtype, kind: str, rows: int, seed: int
) -> None:
    width, features, k = shape
    inputs = properties.draw(kind, rows, width, features, seed)
    checks = exact.decoders(inputs, k, dtype, "cuda", ragged=ragged)
    assert exact.differing(checks)[1] == []


@pytest.mark.parametrize("shape", SHAPES)
@MANY
@given(kind=st.sampled_from(FINITE), **SIZES)
def test_autograd_equals_float64_on_the_device(
    shape: tuple[int, int, int], kind: str, rows: int, seed: int
) -> None:
    width, features, k = shape
    inputs = properties.draw(kind, rows, width, features, seed)
    assert exact.differing(exact.autograd(inputs, k, torch.float32, "cuda"))[1] == []


@pytest.mark.parametrize(
    ("rows", "features"), [(400, (12, 30)), (400, (600, 1100)), (2500, (12, 30))]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_coactivation_equals_float64_on_the_device(
    rows: int, features: tuple[int, int], seed: int
) -> None:
    """With 2,500 rows the feature that fires on all of them is summed in parts."""
    assert exact.differing(exact.pairs(rows, features, 9, seed, "cuda"))[1] == []


@pytest.mark.parametrize("aux_k", [0, 16])
@pytest.mark.parametrize("over_batch", [False, True])
def test_training_steps_on_the_device_follow_those_of_the_cpu(aux_k: int, over_batch: bool) -> None:
    for gap in steps.gaps("cuda", aux_k=aux_k, over_batch=over_batch):
        assert gap.found <= gap.most, gap


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("features", "k"), [(24_576, 32), (4096, 128), (24_576, 512), (512, 512)])
def test_every_run_gives_the_same_bits_on_the_device(
    features: int, k: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 768, device="cuda", dtype=dtype)
    weight = torch.randn(features, 768, device="cuda", dtype=dtype)
    bias = torch.zeros(features, device="cuda", dtype=dtype)
    seen = []
    for _ in range(5):
        codes = encode_topk(x, weight, bias, k)
        found = sparse_gradients(codes, x, x, weight)
        left = decode_loss(codes, weight, x)
        seen.append((codes.values, codes.indices, found.decoder, found.encoder, left.residual))
    for other in seen[1:]:
        assert all(torch.equal(one, two) for one, two in zip(seen[0], other, strict=True))
    wanted = reference.encode_topk(
        x[:8].cpu().double(), weight.cpu().double(), bias.cpu().double(), k
    )
    torch.testing.assert_close(seen[0][0][:8].cpu(), wanted[0].float(), rtol=1e-3, atol=1e-2)


def test_a_feature_beyond_int32_is_read_on_the_device() -> None:
    width = 1024
    features = (1 << 31) // width + 2
    weight = torch.zeros(features, width, dtype=torch.bfloat16, device="cuda")
    weight[-1] = 3
    codes = Codes(
        values=torch.full((1, 1), 2.0, device="cuda"),
        indices=torch.full((1, 1), features - 1, dtype=torch.int32, device="cuda"),
        features=features,
    )
    assert torch.equal(decode(codes, weight), torch.full_like(weight[:1], 6))


def test_debug_mode_refuses_indices_out_of_range_on_the_device() -> None:
    weight = torch.ones(6, 4, device="cuda")
    wrong = Codes(
        values=torch.ones(1, 1, device="cuda"),
        indices=torch.full((1, 1), 6, dtype=torch.int32, device="cuda"),
        features=6,
    )
    with debugging(), pytest.raises(InvalidInput, match=r"indices span \[6, 6\]"):
        decode(wrong, weight)


def test_weights_that_are_not_finite_are_refused_on_the_device() -> None:
    weight = torch.ones(6, 4, device="cuda")
    weight[2, 1] = float("nan")
    with pytest.raises(InvalidInput, match=r"weight holds 1 values .* \(2, 1\)"):
        encode_topk(torch.ones(2, 4, device="cuda"), weight, torch.zeros(6, device="cuda"), 2)
