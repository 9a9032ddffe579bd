# ruff: noqa: D102  (the name of a test is its sentence)
"""What every kind must do, as tests to subclass.

Override :meth:`KindContract.make` in a class whose name begins with ``Test``::

    class TestMyKind(KindContract):
        def make(self) -> Kind:
            return MyKind(features=24)
"""

import json
import math
from dataclasses import replace

import torch
from torch import Tensor

from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.kinds.kind import Kind, Normalisation, StepBatch
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.settings import read_settings, settings_schema, settings_to_dict
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.dictionaries.testing.require import require
from isogloss.dictionaries.wirings.wiring import WiredColumns
from isogloss.errors import InvalidInput
from isogloss.kernels import Codes, StepResult, Workspace

_ROWS = 256
_WIDTH = 8
_STEPS = 40


class KindContract:
    """Tests of the :class:`~isogloss.dictionaries.Kind` seam."""

    learning_rate = 1e-2
    """Step size at which 40 steps lower the squared error."""

    def make(self) -> Kind:
        """Return the kind with settings that suit rows of width 8, such as 24 features."""
        raise TypeError(f"{type(self).__name__} must override make()")

    def make_wide(self) -> Kind:
        """Return the kind with so many features that torch and numba split the work."""
        return replace(self.make(), features=4096)

    def test_settings_survive_json_even_when_whole_numbers_come_as_floats(self) -> None:
        kind = self.make()
        plain = json.loads(json.dumps(settings_to_dict(kind)))
        floats = {
            name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
            for name, value in plain.items()
        }
        for values in (plain, floats):
            require(read_settings(type(kind), values, "it") == kind, f"{values} is not {kind}")

    def test_the_schema_describes_every_setting(self) -> None:
        kind = self.make()
        schema = json.loads(json.dumps(settings_schema(type(kind))))
        require(set(schema["properties"]) == set(settings_to_dict(kind)), "a setting is missing")
        for name, one in schema["properties"].items():
            require(bool(one.get("description")), f"setting {name} has no docstring")

    def test_the_state_is_new_tensors_on_the_cpu(self) -> None:
        kind = self.make()
        initial = initial_weights(
            features=kind.features, seed=3, connection=_autoencoder(), mean=torch.zeros(_WIDTH)
        )
        before = initial.decoder.clone()
        for name, tensor in kind.start(initial).items():
            require(tensor.device.type == "cpu", f"{name} is on {tensor.device}")
            tensor.fill_(7)
        torch.testing.assert_close(initial.decoder, before, rtol=0, atol=0)

    def test_steps_lower_the_squared_error(self) -> None:
        kind = self.make()
        results = self._train(kind, self._started(kind), 0, _STEPS)
        first, last = results[0].squared_error, results[-1].squared_error
        require(last < 0.9 * first, f"the squared error went from {first} to {last}")

    def test_a_step_measures_losses_and_which_features_fired(self) -> None:
        kind = self.make()
        (result,) = self._train(kind, self._started(kind), 0, 1)
        require(math.isfinite(result.loss), f"the loss is {result.loss}")
        require(tuple(result.fired.shape) == (kind.features,), f"fired is {result.fired.shape}")
        require(int(result.fired.max()) <= _ROWS, "a feature fired on more rows than there are")
        require(int(result.fired.sum()) > 0, "no feature fired")

    def test_a_run_resumed_from_its_tensors_ends_with_the_same_bits(self) -> None:
        kind = self.make()
        whole, begun = self._started(kind), self._started(kind)
        self._train(kind, whole, 0, 9)
        self._train(kind, begun, 0, 4)
        resumed = {name: tensor.clone() for name, tensor in begun.items()}
        self._train(kind, resumed, 4, 9)
        for name, tensor in whole.items():
            torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0, msg=f"{name} differs")

    def test_the_scale_of_the_training_rows_is_folded_in(self) -> None:
        kind, rows = self.make(), _rows(99)
        tensors = self._started(kind)
        self._train(kind, tensors, 0, 5)
        unscaled, scaled = (self._exported(kind, tensors, scale) for scale in (1.0, 0.25))
        torch.testing.assert_close(scaled.decoder, unscaled.decoder)
        wanted = unscaled.decode(unscaled.encode(rows)) * 4
        found = scaled.decode(scaled.encode(rows * 4))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)

    def test_the_same_features_fire_whatever_the_scale_of_the_rows(self) -> None:
        # a power of two changes no mantissa: what is left of the run may not change either
        kind, rows = self.make(), _rows(99)
        tensors = self._started(kind)
        self._train(kind, tensors, 0, 5)
        plain = self._exported(kind, tensors, 1.0).encode(rows).to_ragged()
        scaled = self._exported(kind, tensors, 0.25).encode(rows * 4).to_ragged()
        torch.testing.assert_close(scaled.indices, plain.indices, rtol=0, atol=0)
        torch.testing.assert_close(scaled.values, plain.values * 4, rtol=1e-6, atol=0)

    def test_the_bits_do_not_depend_on_the_number_of_threads(self) -> None:
        kind, before = self.make_wide(), torch.get_num_threads()
        runs: list[dict[str, Tensor]] = []
        losses: list[list[float]] = []
        try:
            for threads in (1, 2, 4):
                torch.set_num_threads(threads)
                runs.append(self._started(kind))
                dead = torch.arange(kind.features) % 7 == 0
                losses.append([one.loss for one in self._train(kind, runs[-1], 0, 3, dead=dead)])
        finally:
            torch.set_num_threads(before)
        require(losses[0] == losses[1] == losses[2], f"1, 2 and 4 threads have losses {losses}")
        for threads, run in zip((2, 4), runs[1:], strict=True):
            for name, tensor in runs[0].items():
                text = f"{name} differs between 1 and {threads} threads"
                torch.testing.assert_close(run[name], tensor, rtol=0, atol=0, msg=text)

    def test_what_it_saves_is_what_it_says_and_can_be_decoded_by_anybody(self) -> None:
        kind, rows = self.make(), _rows(98)
        tensors = self._started(kind)
        self._train(kind, tensors, 0, 5)
        made = self._exported(kind, tensors, 0.5)
        require({"decoder", "decoder_bias"} <= set(kind.saved), "decoder or its bias is not saved")
        codes = made.encode(rows).to_ragged()
        require(bool((codes.values > 0).all()), "an active feature has a value below 0")
        wanted = made.tensors["decoder_bias"].repeat(len(rows), 1)
        counts = torch.diff(_offsets(codes))
        owners = torch.repeat_interleave(torch.arange(len(rows)), counts)
        wanted.index_add_(0, owners, codes.values[:, None] * made.decoder[codes.indices.long()])
        torch.testing.assert_close(made.decode(codes), wanted, rtol=1e-4, atol=1e-4)

    def test_an_unknown_setting_and_no_features_are_refused(self) -> None:
        kind = self.make()
        plain = settings_to_dict(kind)
        for wrong in ({"no_such_setting": 1}, {"features": 0}, {"features": 2.5}):
            try:
                read_settings(type(kind), {**plain, **wrong}, "it")
            except InvalidInput as error:
                require(next(iter(wrong)) in str(error), f"{error} does not name {wrong}")
            else:
                require(False, f"{wrong} was taken")

    def test_exported_tensors_share_no_memory_with_the_state(self) -> None:
        kind = self.make()
        tensors = self._started(kind)
        made = self._exported(kind, tensors, 1.0)
        before = made.decoder.clone()
        for tensor in tensors.values():
            tensor.fill_(7)
        torch.testing.assert_close(made.decoder, before, rtol=0, atol=0)

    def test_rows_to_reconstruct_that_are_not_those_read_are_learned_or_refused(self) -> None:
        kind = self.make()
        connection = WiredColumns(reads=range(_WIDTH), writes=range(_WIDTH, 2 * _WIDTH))
        mean = torch.zeros(2 * _WIDTH)
        initial = initial_weights(features=kind.features, seed=3, connection=connection, mean=mean)
        try:
            kind.start(initial)
        except InvalidInput as error:
            require(bool(str(error)), "the refusal says nothing")

    def _started(self, kind: Kind) -> dict[str, Tensor]:
        mean = _rows(0).to(torch.float64).mean(0)
        return kind.start(
            initial_weights(features=kind.features, seed=3, connection=_autoencoder(), mean=mean)
        )

    def _train(
        self,
        kind: Kind,
        tensors: dict[str, Tensor],
        start: int,
        stop: int,
        *,
        dead: Tensor | None = None,
    ) -> list[StepResult]:
        workspace = Workspace()
        variance = float((_rows(0) - _rows(0).mean(0)).square().sum(1).mean())
        results: list[StepResult] = []
        for step in range(start, stop):
            rows = _rows(step)
            batch = StepBatch(
                rows=rows,
                target=rows,
                step=step + 1,
                total_steps=_STEPS,
                learning_rate=self.learning_rate,
                variance=variance,
                dead=dead,
                workspace=workspace,
            )
            results.append(kind.step(tensors, batch))
        return results

    def _exported(self, kind: Kind, tensors: dict[str, Tensor], scale: float) -> SparseDictionary:
        normalisation = Normalisation(scale=scale, variance=1.0, mean=torch.zeros(_WIDTH))
        return SparseDictionary(
            kind="under test",
            settings=kind,
            tensors=kind.export(tensors, normalisation),
            provenance=DictionaryProvenance(),
        )


def _offsets(codes: Codes) -> Tensor:
    if codes.offsets is None:
        raise TypeError("to_ragged() gave codes without offsets")
    return codes.offsets


def _autoencoder() -> WiredColumns:
    return WiredColumns(reads=range(_WIDTH), writes=range(_WIDTH))


def _rows(seed: int) -> Tensor:
    """Return rows that are sums of few of 16 directions, about a mean row."""
    directions = torch.randn(16, _WIDTH, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    fires = torch.rand(_ROWS, 16, generator=generator) < 0.12
    strength = torch.where(fires, 1 + torch.rand(_ROWS, 16, generator=generator), 0.0)
    return strength @ directions + 0.3
