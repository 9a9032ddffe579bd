# ruff: noqa: D102  (the name of a test is its sentence)
"""What every kind must do with every wiring, as tests to subclass.

Override :meth:`WiredContract.make` and, where the kind's parameters are named ``weights.NAME`` and
its moments ``first.NAME``, :meth:`WiredContract.dense_loss`, in a class whose name begins with
``Test``::

    class TestMyKindWired(WiredContract):
        def make(self, features: int) -> Kind:
            return MyKind(features=features)
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from isogloss.dictionaries.evaluation import evaluate
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.kinds.kind import Kind, StepBatch
from isogloss.dictionaries.rows.batches import held_out_pairs
from isogloss.dictionaries.rows.joined import join_rows
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.saving import load_dictionary, save_dictionary
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.dictionaries.testing.planted import (
    WIRINGS,
    PlantedRun,
    Wired,
    found_directions,
    planted,
)
from isogloss.dictionaries.testing.recorded import record_planted, run_config
from isogloss.dictionaries.testing.require import require
from isogloss.dictionaries.training.train import train
from isogloss.errors import JobCancelled
from isogloss.kernels import Workspace, inside_columns
from isogloss.store import Store

_WIDTH, _ROWS, _FEATURES, _VARIANCE = 6, 16, 24, 1.7


class WiredContract:
    """Tests of a kind with each wiring: one site, one site to another, several sites."""

    steps = 300
    """Steps in which the planted directions are recovered."""
    recovered = 31 / 32
    """Least share of the planted directions to be found at cosine 0.9: all 16."""
    recovered_by_site = 0.85
    """The same where features belong to one site: a direction counts where a feature of each site
    finds its part there. One that lies at two sites has three ways to be learned (shared, or once
    at each site), and some are found at one site only within these steps."""
    learning_rate = 1e-2
    """Peak step size on planted rows."""
    unit_norm = True
    """Whether the decoder's gradient is projected orthogonal to its rows."""

    def make(self, features: int) -> Kind:
        """Return the kind, with settings that suit rows made of 1.5 directions."""
        raise TypeError(f"{type(self).__name__} must override make()")

    def name(self) -> str:
        """Return the name of the kind in the table, for runs on a recording; empty: no such."""
        return ""

    def dense_loss(self, given: Mapping[str, Tensor], batch: StepBatch) -> Tensor | None:
        """Return the documented loss, dense, in float64; None: not known.

        Args:
            given: the parameters by name, float64, with gradients, and ``input_bias`` where there
                is one.
            batch: rows and targets, still float32.
        """
        del given, batch
        return None

    def dense_gradients(
        self, given: Mapping[str, Tensor], batch: StepBatch
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Return the loss and its gradient to each parameter; by autograd, unless overridden."""
        loss = self.dense_loss(given, batch)
        if loss is None:
            return None
        names = [name for name, tensor in given.items() if tensor.requires_grad]
        found = torch.autograd.grad(loss, [given[name] for name in names])
        return loss, dict(zip(names, found, strict=True))

    @pytest.fixture(params=sorted(WIRINGS))
    def wired(self, request: pytest.FixtureRequest) -> Wired:
        """One wiring after another."""
        return WIRINGS[str(request.param)]

    @pytest.mark.parametrize("dead", [False, True])
    def test_loss_and_gradients_are_those_of_the_dense_reference(
        self, wired: Wired, dead: bool
    ) -> None:
        kind, columns = self.make(_FEATURES), wired.columns(_FEATURES, _WIDTH)
        tensors = _random_state(kind, wired)
        batch = _random_batch(wired, dead)
        given = {
            name.removeprefix("weights."): tensor.double().requires_grad_()
            for name, tensor in tensors.items()
            if name.startswith("weights.")
        }
        if "input_bias" in tensors:
            given["input_bias"] = tensors["input_bias"].double()
        found = self.dense_gradients(given, batch)
        if found is None:
            pytest.skip("the kind gives no dense loss")
        loss, gradients = found
        result = _without_bound(kind).step(tensors, batch)
        require(
            abs(result.loss / loss.item() - 1) < 1e-5, f"loss {result.loss}, dense {loss.item()}"
        )
        for name, gradient in gradients.items():
            wanted = gradient.detach()
            if columns is not None and name in ("encoder", "decoder"):
                wanted = torch.where(inside_columns(columns, wanted.shape[1]), wanted, 0.0)
            if name == "decoder" and self.unit_norm:
                decoder = given["decoder"].detach()
                along = (wanted * decoder).sum(1, keepdim=True)
                wanted = wanted - along / decoder.square().sum(1, keepdim=True) * decoder
            # after the first step Adam's first moment is a tenth of the gradient
            moment = tensors[f"first.{name}"].double() / (1 - 0.9)
            torch.testing.assert_close(
                moment, wanted, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )

    def test_planted_directions_are_recovered_and_the_loss_falls(self, wired: Wired) -> None:
        kind = self.make(40)
        run = PlantedRun(kind=kind, wired=wired, steps=self.steps, learning_rate=self.learning_rate)
        results = run.take(1, self.steps)
        first, last = results[0], results[-1]
        require(last.loss < 0.5 * first.loss, f"the loss went from {first.loss} to {last.loss}")
        require(last.squared_error < 0.5 * first.squared_error, "the squared error did not halve")
        writes = wired.connect().writes
        _, directions = planted(128, 0, wired.sites)
        made = run.finish()
        columns, least, parts = wired.columns(40), self.recovered, [range(made.decoder.shape[1])]
        if columns is not None:
            parts, least = list(wired.parts()), self.recovered_by_site
        written = directions[:, writes.start : writes.stop]
        found = torch.stack(
            [found_directions(made.decoder[:, p.start : p.stop], written[:, p.start : p.stop])
             for p in parts]
        ).all(0)  # fmt: skip
        share = float(found.float().mean())
        require(share >= least, f"{share:.3f} of the directions are found")
        if columns is not None:
            outside = ~inside_columns(columns, made.decoder.shape[1])
            stray = made.decoder[outside].any() | made.tensors["encoder"][outside].any()
            require(not bool(stray), "a dedicated feature has weights at another site")

    def test_one_and_two_threads_give_the_same_bits(self, wired: Wired) -> None:
        before, runs = torch.get_num_threads(), list[PlantedRun]()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                runs.append(PlantedRun(kind=self.make(1024), wired=wired, steps=9))
                runs[-1].take(1, 2)
        finally:
            torch.set_num_threads(before)
        for name, tensor in runs[0].tensors.items():
            text = f"{name} differs between 1 and 2 threads"
            torch.testing.assert_close(runs[1].tensors[name], tensor, rtol=0, atol=0, msg=text)

    @pytest.fixture
    def recorded(self, tmp_path: Path, request: pytest.FixtureRequest) -> list[Source]:
        """Two sites of a recording, made of the same directions."""
        store = Store.open(tmp_path / "store")
        request.addfinalizer(store.close)  # noqa: PT021 (jaxtyping hides generators from pytest)
        return record_planted(store)

    def test_a_run_resumes_and_its_dictionary_is_saved_to_the_bit(
        self, wired: Wired, recorded: list[Source], tmp_path: Path
    ) -> None:
        kind = self.name()
        if not kind:
            pytest.skip("the kind has no name to be trained by")
        config, sources = run_config(kind, self.make(40), wired), recorded[: wired.sites]
        whole = train(config, sources, tmp_path / "whole")
        asked = iter([False] * 7 + [True])
        with pytest.raises(JobCancelled):
            train(config, sources, tmp_path / "run", should_stop=lambda: next(asked))
        (newest,) = sorted((tmp_path / "run").glob("step-*"))[-1:]
        torn = newest / "state.safetensors"  # as a disk may leave it: the one before is whole
        torn.write_bytes(torn.read_bytes()[:-100])
        resumed = train(config, sources, tmp_path / "run")
        save_dictionary(resumed, tmp_path / "saved")
        read = load_dictionary(tmp_path / "saved")
        for name, tensor in whole.tensors.items():
            require(torch.equal(resumed.tensors[name], tensor), f"{name} differs when resumed")
            require(torch.equal(read.tensors[name], tensor), f"{name} differs when loaded")
        require(read.wiring == wired.wiring, f"the wiring is {read.wiring}")
        require(read.provenance == resumed.provenance, "the provenance differs when loaded")
        self._check_shapes(read, wired, sources)

    def _check_shapes(self, made: SparseDictionary, wired: Wired, sources: list[Source]) -> None:
        joined, connection = join_rows(sources), wired.connect()
        (pair,) = held_out_pairs(joined, connection, holdout=0.25)
        codes = made.encode(pair.rows)
        require(codes.rows == len(pair.rows), f"{len(pair.rows)} rows gave codes of {codes.rows}")
        require(made.width == len(connection.reads), f"it reads {made.width} columns")
        require(made.decode(codes).shape == pair.target.shape, "decoded to another shape")
        found = evaluate(made, [pair], parts=wired.parts())
        curve = made.provenance.curve
        require(curve[-1].loss < curve[0].loss, "the loss did not fall")
        sites = len(wired.parts())
        require(len(curve[-1].site_fvu) == len(found.site_fvu) == sites, "losses by site are lost")
        if sites:  # every site has the same variance
            wanted = float(np.mean(curve[-1].site_fvu))
            require(abs(wanted - curve[-1].fvu) < 1e-3, f"{curve[-1]}: sites and sum differ")


def _without_bound(kind: Kind) -> Kind:
    """Return the kind without a bound on its gradient, where it has the setting ``clip_norm``."""
    has_one = any(field.name == "clip_norm" for field in fields(kind))
    return replace(kind, clip_norm=0.0) if has_one else kind


def _random_state(kind: Kind, wired: Wired) -> dict[str, Tensor]:
    """Return the state of a run whose parameters are all random, decoder rows of norm 1."""
    connection, columns = wired.connect(_WIDTH), wired.columns(_FEATURES, _WIDTH)
    mean = torch.linspace(-0.2, 0.3, wired.sites * _WIDTH, dtype=torch.float64)
    tensors = kind.start(
        initial_weights(
            features=_FEATURES, seed=3, connection=connection, mean=mean, columns=columns
        )
    )
    generator = torch.Generator().manual_seed(2)
    for name in sorted(tensors):
        if name.startswith("weights.") and name != "weights.decoder":
            noise = torch.randn(tensors[name].shape, generator=generator)
            size = _WIDTH**-0.5 if name == "weights.encoder" else 0.1
            if name == "weights.encoder" and columns is not None:
                noise = torch.where(inside_columns(columns, noise.shape[1]), noise, 0.0)
            tensors[name].add_(size * noise)
    return tensors


def _random_batch(wired: Wired, dead: bool) -> StepBatch:
    connection = wired.connect(_WIDTH)
    shape, generator = (_ROWS, wired.sites * _WIDTH), torch.Generator().manual_seed(9)
    every = torch.randn(shape, generator=generator)
    rows, target = (
        every[:, part.start : part.stop].contiguous()
        for part in (connection.reads, connection.writes)
    )
    return StepBatch(
        rows=rows,
        target=rows if connection.reads_what_it_writes else target,
        step=1,
        total_steps=1,
        learning_rate=0.0,
        variance=_VARIANCE,
        dead=torch.arange(_FEATURES) % 4 < 1 if dead else None,
        workspace=Workspace(),
        columns=wired.columns(_FEATURES, _WIDTH),
        parts=wired.parts(_WIDTH),
    )
