"""What is asked on a device, asked of the CPU's kernels: it holds, and would notice a wrong bit."""

import pytest
import torch

pytest.importorskip("triton")

from isogloss.kernels.testing import exact, properties, steps

INPUTS = properties.draw("ties", 5, 7, 40, 0)


def every(dtype: torch.dtype) -> list[exact.Check]:
    checks = list(exact.encoders(INPUTS, 6, dtype, "cpu"))
    for ragged in (False, True):
        checks += exact.decoders(INPUTS, 6, dtype, "cpu", ragged=ragged)
    checks += exact.autograd(INPUTS, 6, dtype, "cpu")
    return checks + list(exact.pairs(30, (12, 30), 5, 1, "cpu"))


def test_all_operations_hold_on_the_cpu() -> None:
    count, wrong = exact.differing(every(torch.float32))
    assert wrong == []
    assert count >= 50
    assert exact.differing(every(torch.bfloat16)) == (count, [])


def test_a_wrong_bit_a_wrong_shape_and_a_lost_nan_are_noticed() -> None:
    for check in every(torch.float32):
        found = check.found.detach().clone()
        if not found.numel():
            continue
        at = found.reshape(-1)
        at[-1] = (
            at[-1] + 1
            if not found.is_floating_point()
            else at[-1].nextafter(torch.tensor(float("inf"), dtype=found.dtype))
        )
        assert not check._replace(found=found).holds, check.name
        assert not check._replace(found=found[None]).holds
    nan = torch.tensor([float("nan"), 1.0])
    assert exact.Check("nan", nan, nan.double()).holds
    assert not exact.Check("nan", nan.nan_to_num(), nan.double()).holds


@pytest.mark.parametrize("aux_k", [0, 16])
@pytest.mark.parametrize("over_batch", [False, True])
def test_the_composed_step_follows_the_fused_one(aux_k: int, over_batch: bool) -> None:
    found = list(steps.gaps("cpu", aux_k=aux_k, over_batch=over_batch))
    assert len(found) == 20
    assert [gap for gap in found if not gap.found <= gap.most] == []
