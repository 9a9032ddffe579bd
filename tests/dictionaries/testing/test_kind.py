"""The contract of kinds has teeth: kinds with one fault each fail the test that is about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from tests.dictionaries.toy_kind.toy_kind import ReluL1
from torch import Tensor

from isogloss.dictionaries import InitialWeights, Kind, Normalisation, StepBatch
from isogloss.dictionaries.testing import KindContract
from isogloss.kernels import StepResult

Check = Callable[[KindContract], None]


class Aliasing(ReluL1):
    """Trains on the very tensors that it was given to start from."""

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        return ReluL1.start(self, initial) | {"decoder": initial.decoder}


class Unscaled(ReluL1):
    """Forgets the scale of the training rows."""

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in tensors.items()}


class Sharing(ReluL1):
    """Hands out the tensors that are trained on."""

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        return dict(tensors)


class Idle(ReluL1):
    """Measures and learns nothing."""

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        return ReluL1.step(self, copies, batch)


@dataclass(frozen=True, kw_only=True)
class Remembering(ReluL1):
    """Keeps something of its own from step to step, which no checkpoint holds."""

    seen: list[int] = field(default_factory=list[int])
    """Steps taken."""

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        self.seen.append(batch.step)
        tensors["encoder_bias"].add_(1e-3 * len(self.seen))
        return ReluL1.step(self, tensors, batch)


@dataclass(frozen=True, kw_only=True)
class Undescribed(ReluL1):
    """Has a setting without a docstring."""

    more: int = 3


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Aliasing, KindContract.test_the_state_is_new_tensors_on_the_cpu),
        (Unscaled, KindContract.test_the_scale_of_the_training_rows_is_folded_in),
        (Sharing, KindContract.test_exported_tensors_share_no_memory_with_the_state),
        (Idle, KindContract.test_steps_lower_the_squared_error),
        (Remembering, KindContract.test_a_run_resumed_from_its_tensors_ends_with_the_same_bits),
        (Undescribed, KindContract.test_the_schema_describes_every_setting),
    ],
)
def test_a_kind_with_a_fault_fails_the_test_that_is_about_it(kind: type[Kind], check: Check):
    class Contract(KindContract):
        def make(self) -> Kind:
            return kind(features=24)

    with pytest.raises(AssertionError):
        check(Contract())
