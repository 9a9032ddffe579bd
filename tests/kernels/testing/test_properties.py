"""Properties of the Triton kernels, run by the interpreter: equal to float64, to the bit."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here: test_on_device.py", allow_module_level=True)

from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402 (after the check above)
from isogloss.kernels.testing import properties  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)
KINDS = st.sampled_from(properties.KINDS)
FINITE = st.sampled_from([kind for kind in properties.KINDS if kind not in properties.NON_FINITE])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SIZES = {
    "rows": st.integers(1, 6),
    "width": st.integers(1, 20),
    "features": st.integers(1, 110),
    "k": st.integers(1, 12),
    "seed": st.integers(0, 99),
}


def gently(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def encode_once(
    kind: str, rows: int, width: int, features: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    inputs = properties.draw(kind, rows, width, features, seed)
    with interpreter():
        properties.check_encode(inputs, min(k, features), dtype, SMALL)


def gradients_once(
    kind: str,
    rows: int,
    width: int,
    features: int,
    k: int,
    dtype: torch.dtype,
    seed: int,
    ragged: bool,
) -> None:
    if kind == "nan and inf weights":  # refused before any launch
        kind = "nan row"
    inputs = properties.draw(kind, rows, width, features, seed)
    with interpreter():
        properties.check_gradients(inputs, min(k, features), dtype, ragged=ragged)
        if kind not in properties.NON_FINITE:
            properties.check_decode(inputs, min(k, features), dtype, ragged=ragged)


@gently(12)
@given(kind=KINDS, dtype=DTYPES, **SIZES)
def test_encode_is_exact_and_breaks_ties_by_the_lowest_feature(
    kind: str, rows: int, width: int, features: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    encode_once(kind, rows, width, features, k, dtype, seed)


@gently(10)
@given(kind=KINDS, dtype=DTYPES, ragged=st.booleans(), **SIZES)
def test_decode_and_every_gradient_equal_float64(
    kind: str,
    rows: int,
    width: int,
    features: int,
    k: int,
    dtype: torch.dtype,
    seed: int,
    ragged: bool,
) -> None:
    gradients_once(kind, rows, width, features, k, dtype, seed, ragged)


@gently(3)
@given(kind=FINITE, dtype=st.just(torch.float32), **SIZES)
def test_autograd_through_encode_and_decode_equals_float64(
    kind: str, rows: int, width: int, features: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    inputs = properties.draw(kind, rows, width, features, seed)
    with interpreter():
        properties.check_autograd(inputs, min(k, features), dtype)


@pytest.mark.parametrize("kind", properties.KINDS)
def test_one_row_and_one_feature_go_through_every_operation(kind: str) -> None:
    for rows, width, features, k in ((1, 1, 1, 1), (1, 17, 70, 9)):
        encode_once(kind, rows, width, features, k, torch.bfloat16, 1)
    gradients_once(kind, 1, 3, 1, 1, torch.float16, 1, False)


def test_winners_that_crowd_a_program_are_repaired_exactly_in_every_dtype() -> None:
    inputs = properties.draw("one program", 3, 8, 256, 0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with interpreter():
            repaired = properties.check_encode(inputs, 12, dtype, SMALL)
        assert repaired.tolist() == [1, 1, 1]


def test_a_hot_feature_is_split_and_added_in_order_in_every_dtype() -> None:
    inputs = properties.draw("hot", 68, 5, 12, 0)
    for dtype, ragged in ((torch.float32, False), (torch.bfloat16, True), (torch.float16, False)):
        with interpreter():
            properties.check_gradients(inputs, 2, dtype, ragged=ragged)


def test_a_wrong_number_is_named() -> None:
    inputs = properties.draw("ties", 2, 3, 5, 0)
    wrong = properties.draw("ties", 2, 3, 5, 1)
    codes = properties._codes(inputs, 2, ragged=False)
    wanted = properties._gradients(codes, wrong)
    with pytest.raises(AssertionError, match=r"^encoder: "):
        properties._same(
            "encoder", properties._gradients(codes, inputs)["encoder"], wanted["encoder"]
        )


@pytest.mark.slow
@pytest.mark.timeout(3000)
@gently(400)
@given(kind=KINDS, dtype=DTYPES, **{**SIZES, "rows": st.integers(1, 20), "k": st.integers(1, 80)})
def test_encode_is_exact_on_many_inputs(
    kind: str, rows: int, width: int, features: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    encode_once(kind, rows, width, features, k, dtype, seed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@gently(200)
@given(kind=KINDS, dtype=DTYPES, ragged=st.booleans(), **{**SIZES, "rows": st.integers(1, 90)})
def test_decode_and_every_gradient_equal_float64_on_many_inputs(
    kind: str,
    rows: int,
    width: int,
    features: int,
    k: int,
    dtype: torch.dtype,
    seed: int,
    ragged: bool,
) -> None:
    gradients_once(kind, rows, width, features, k, dtype, seed, ragged)
