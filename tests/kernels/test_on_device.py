"""The properties of test_properties.py on a real device: ``pytest -m gpu``, skipped without one."""

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

pytest.importorskip("triton")

from isogloss.kernels.testing import properties

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA or ROCm device: torch sees none"
    ),
]
KINDS = st.sampled_from(properties.KINDS)
FINITE = st.sampled_from([kind for kind in properties.KINDS if kind not in properties.NON_FINITE])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SIZES = {
    "rows": st.integers(1, 300),
    "width": st.integers(1, 130),
    "features": st.integers(1, 3000),
    "k": st.integers(1, 70),
    "seed": st.integers(0, 9999),
}
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(kind=KINDS, dtype=DTYPES, **SIZES)
def test_encode_is_exact_on_the_device(
    kind: str, rows: int, width: int, features: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    inputs = properties.draw(kind, rows, width, features, seed)
    properties.check_encode(inputs, min(k, features), dtype, device="cuda")


@MANY
@given(kind=FINITE, dtype=DTYPES, ragged=st.booleans(), **SIZES)
def test_decode_and_every_gradient_equal_float64_on_the_device(
    kind: str,
    rows: int,
    width: int,
    features: int,
    k: int,
    dtype: torch.dtype,
    seed: int,
    ragged: bool,
) -> None:
    inputs = properties.draw(kind, rows, width, features, seed)
    properties.check_decode(inputs, min(k, features), dtype, ragged=ragged, device="cuda")
    properties.check_gradients(inputs, min(k, features), dtype, ragged=ragged, device="cuda")


@MANY
@given(kind=FINITE, **SIZES)
def test_autograd_equals_float64_on_the_device(
    kind: str, rows: int, width: int, features: int, k: int, seed: int
) -> None:
    inputs = properties.draw(kind, rows, width, features, seed)
    properties.check_autograd(inputs, min(k, features), torch.float32, device="cuda")


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
