"""What is refused before a launch, and how often weights are searched."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepSettings,
    Weights,
    coactivation,
    coactivation_blocks,
    debugging,
    decode,
    decode_prefixes,
    encode_batch_topk,
    encode_topk,
    encode_topk_aux,
    sparse_gradients,
    train_step_topk,
)
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.debug_mode import reads_content

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite_are_refused_with_their_place(
    wrong: float, dtype: torch.dtype
) -> None:
    x, weight, bias = (torch.ones(*shape, dtype=dtype) for shape in ((2, 4), (6, 4), (6,)))
    weight[3, 1] = wrong
    with pytest.raises(InvalidInput, match=r"weight holds 1 values .* the first at \(3, 1\)"):
        encode_topk(x, weight, bias, 2)
    weight[3, 1], bias[5] = 1, wrong
    with pytest.raises(InvalidInput, match=r"bias holds 1 values .* \(5,\); finite weights"):
        encode_topk(x, weight, bias, 2)
    codes = encode_topk(x, weight, torch.zeros(6), 2)
    weight[0] = wrong
    with pytest.raises(InvalidInput, match="weight holds 4 values"):
        decode(codes, weight)
    with pytest.raises(InvalidInput, match="weight holds 4 values"):
        sparse_gradients(codes, x, x, weight)


def count_searches(monkeypatch: pytest.MonkeyPatch, searched: list[torch.Size]) -> None:
    real = torch.Tensor.aminmax

    def counted(tensor: Tensor) -> object:
        searched.append(tensor.shape)
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "aminmax", counted)


def test_weights_are_searched_once_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, searched = torch.ones(6, 4), list[torch.Size]()
    count_searches(monkeypatch, searched)
    for _ in range(3):
        checks.finite(weight=weight)
    assert len(searched) == 1
    weight[0, 0] = 2.0
    checks.finite(weight=weight)
    checks.finite(weight=weight)
    assert len(searched) == 2
    with debugging():
        checks.finite(weight=weight)
    assert len(searched) == 3
    with torch.inference_mode():
        untracked = torch.ones(6, 4)  # counts no versions
        checks.finite(weight=untracked)
        checks.finite(weight=untracked)
    assert len(searched) == 5


def test_a_training_step_does_not_search_what_it_made_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(20, 6))
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=torch.zeros(20),
        decoder=rows,
        decoder_bias=torch.zeros(6),
    )
    moments, chosen = (
        AdamMoments.zeros_like(weights),
        StepSettings(k=3, learning_rate=1e-3, variance=6),
    )
    x, searched = torch.randn(8, 6), list[torch.Size]()
    count_searches(monkeypatch, searched)
    for step in (1, 2, 3):
        train_step_topk(x, weights, moments, chosen, step=step)
    assert len(searched) == 4  # the four tensors, at the first step
    weights.encoder[0, 0] = NAN
    with pytest.raises(InvalidInput, match="encoder holds 1 values"):
        train_step_topk(x, weights, moments, chosen, step=4)


def test_autograd_sees_that_a_training_step_changed_the_weights() -> None:
    torch.manual_seed(0)
    rows = torch.randn(20, 6)
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=torch.zeros(20),
        decoder=rows,
        decoder_bias=torch.zeros(6),
    )
    x = torch.randn(8, 6, requires_grad=True)
    loss = (x @ weights.encoder.T).sum()
    chosen = StepSettings(k=3, learning_rate=1e-3, variance=6)
    train_step_topk(x.detach(), weights, AdamMoments.zeros_like(weights), chosen, step=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_debug_mode_reads_content_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, here = torch.empty(1, device="meta"), torch.empty(1)
    monkeypatch.delenv("ISOGLOSS_DEBUG", raising=False)
    assert (reads_content(here), reads_content(elsewhere)) == (True, False)
    with debugging():
        assert reads_content(elsewhere)
        with debugging():
            assert reads_content(elsewhere)
        assert reads_content(elsewhere)
    assert not reads_content(elsewhere)
    for value, wanted in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("ISOGLOSS_DEBUG", value)
        assert reads_content(elsewhere) is wanted


def test_indices_out_of_range_are_refused_before_the_triton_kernels() -> None:
    pytest.importorskip("triton")
    from isogloss.kernels.testing.interpreter import interpreter

    weight = torch.ones(6, 4)
    wrong = Codes(values=torch.ones(1, 1), indices=torch.full((1, 1), 6).int(), features=6)
    with interpreter(), pytest.raises(InvalidInput, match=r"indices span \[6, 6\]"):
        decode(wrong, weight)


@pytest.mark.parametrize("wrong", [2.0, "2", True, None, torch.tensor(2.5)])
def test_numbers_that_are_not_whole_are_refused_by_name(wrong: object) -> None:
    x, weight, bias = torch.ones(3, 4), torch.ones(6, 4), torch.zeros(6)
    codes, mask = encode_topk(x, weight, bias, 2), torch.ones(6, dtype=torch.bool)
    calls: list[tuple[str, Callable[[Any], object]]] = [  # Any: what a caller may pass
        ("k", lambda k: encode_topk(x, weight, bias, k)),
        ("k", lambda k: encode_batch_topk(x, weight, bias, k)),
        ("aux_k", lambda k: encode_topk_aux(x, weight, bias, 2, mask, k)),
        ("count", lambda k: coactivation(codes, codes, count=k)),
        ("min_cofires", lambda k: coactivation(codes, codes, min_cofires=k)),
        ("block", lambda k: coactivation_blocks(codes, codes, block=k)),
        ("one of prefixes", lambda k: decode_prefixes(codes, weight, [k])),
        ("k", lambda k: StepSettings(k=k, learning_rate=1e-3, variance=1.0)),
    ]
    for name, call in calls:
        with pytest.raises(InvalidInput, match=rf"^{name} is .*a whole number is wanted"):
            call(wrong)
    assert encode_topk(x, weight, bias, int(np.int64(2))).k == 2
    checks.whole(k=np.int64(2))
