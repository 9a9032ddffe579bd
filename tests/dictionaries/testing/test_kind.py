"""The contract of kinds has teeth: kinds with one fault each fail the test that is about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from tests.dictionaries.toy_kind.toy_kind import ReluL1
from torch import Tensor

from isogloss.dictionaries import InitialWeights, Kind, Normalisation, StepBatch
from isogloss.dictionaries.testing import KindContract
from isogloss.kernels import Codes, StepResult

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


class Unordered(ReluL1):
    """Moves by a sum whose order is that of the threads."""

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        result = ReluL1.step(self, tensors, batch)
        parts = (batch.rows @ tensors["encoder"].T).flatten().chunk(torch.get_num_threads())
        for part in parts:  # one for each thread, as a sum of several threads is made
            tensors["encoder_bias"].add_(1e-6 * part.square().sum())
        return result


class HalfScaled(ReluL1):
    """Forgets the scale of the encoder's bias."""

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        made = ReluL1.export(self, tensors, normalisation)
        return made | {"encoder_bias": tensors["encoder_bias"] + 0.05}


class Negative(ReluL1):
    """Gives codes below zero."""

    def encode(self, tensors: Mapping[str, Tensor], rows: Tensor) -> Codes:
        found = ReluL1.encode(self, tensors, rows)
        return found.with_values(-found.values)


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
        (Unordered, KindContract.test_the_bits_do_not_depend_on_the_number_of_threads),
        (HalfScaled, KindContract.test_the_same_features_fire_whatever_the_scale_of_the_rows),
        (Negative, KindContract.test_what_it_saves_is_what_it_says_and_can_be_decoded_by_anybody),
        (Undescribed, KindContract.test_the_schema_describes_every_setting),
    ],
)
def test_a_kind_with_a_fault_fails_the_test_that_is_about_it(kind: type[Kind], check: Check):
    class Contract(KindContract):
        def make(self) -> Kind:
            return kind(features=24)

    with pytest.raises(AssertionError):
        check(Contract())
