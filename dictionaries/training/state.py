"""The tensors and counts that change while a run trains; written to checkpoints and read back."""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.initialise import initial_decoder, initial_weights, tensor_hash
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.provenance import DictionaryProvenance, TrainProgress
from isogloss.dictionaries.rows.measure import measure_rows
from isogloss.dictionaries.sparse_dictionary import SparseDictionary, tensors_hash
from isogloss.dictionaries.training.checkpoints import Checkpoint
from isogloss.dictionaries.training.identity import RunIdentity
from isogloss.dictionaries.training.plan import TrainPlan
from isogloss.errors import CorruptData, InvalidInput, NonFiniteRows
from isogloss.kernels import StepResult

_SUMS = ("squared_error", "loss", "fires")


class TrainState:
    """The tensors of the kind, and counters of the run, between two steps."""

    def __init__(
        self,
        *,
        tensors: dict[str, Tensor],
        silent_rows: Tensor,
        normalisation: Normalisation,
        init_hash: str,
        step: int = 0,
    ) -> None:
        self.tensors = tensors
        self.normalisation = normalisation
        self.step = step
        self._silent_rows = silent_rows  # rows since each feature fired, int64 [features]
        self._init_hash = init_hash
        self._rows = 0
        self._curve: list[TrainProgress] = []
        self._sums = dict.fromkeys(_SUMS, 0.0)  # over the rows since the last point of the curve
        self._window_rows = 0

    @property
    def device(self) -> torch.device:
        """The device that the tensors are on."""
        return self._silent_rows.device

    @classmethod
    def start(cls, plan: TrainPlan, device: torch.device) -> "TrainState":
        """Return the state before the first step.

        Raises:
            InvalidInput: the rows do not vary, or the kind cannot be trained on them.
            NonFiniteRows: a row holds NaN or infinity.
        """
        normalisation = measure_rows(plan.reader, plan.sites, plan.keep, plan.connection.writes)
        return cls._begin(plan, normalisation, device)

    @classmethod
    def _begin(
        cls, plan: TrainPlan, normalisation: Normalisation, device: torch.device, step: int = 0
    ) -> "TrainState":
        initial = initial_weights(
            features=plan.kind.features,
            seed=plan.config.seed,
            connection=plan.connection,
            mean=normalisation.mean,
        )
        started = plan.kind.start(initial)
        taken = sorted({"silent_rows", "mean"} & set(started))
        if taken:
            raise InvalidInput(
                f"kind {plan.config.kind!r} has tensors named {taken}, names that a checkpoint "
                "needs for the run itself; wanted other names"
            )
        return cls(
            tensors={name: tensor.to(device) for name, tensor in started.items()},
            silent_rows=torch.zeros(plan.kind.features, dtype=torch.int64, device=device),
            normalisation=normalisation,
            init_hash=tensor_hash(initial.decoder),
            step=step,
        )

    def dead(self, dead_after_rows: int) -> Tensor | None:
        """Return bool ``[features]``: which did not fire for so many rows; None if all did."""
        dead = self._silent_rows >= dead_after_rows
        return dead if bool(dead.any()) else None

    def count(self, result: StepResult, rows: int) -> None:
        """Take note of a step's result.

        Raises:
            NonFiniteRows: the loss is NaN or infinite.
        """
        if not math.isfinite(result.loss):
            raise NonFiniteRows(
                f"the loss is {result.loss} at step {self.step}; wanted a finite one: lower "
                "learning_rate, or check the rows of this site for outliers"
            )
        self.step += 1
        self._rows += rows
        self._window_rows += rows
        self._silent_rows = torch.where(result.fired > 0, 0, self._silent_rows + rows)
        self._sums["squared_error"] += result.squared_error * rows
        self._sums["loss"] += result.loss * rows
        self._sums["fires"] += float(result.fired.sum(dtype=torch.int64))

    def progress(self, plan: TrainPlan, *, rows_per_s: float, close_window: bool) -> TrainProgress:
        """Return means since the last point of the curve; closing the window adds a point."""
        rows = self._window_rows
        dead = self._silent_rows >= plan.dead_after_rows
        point = TrainProgress(
            step=self.step,
            total_steps=plan.total_steps,
            rows=self._rows,
            fvu=self._sums["squared_error"] / rows / self.normalisation.variance,
            loss=self._sums["loss"] / rows,
            l0=self._sums["fires"] / rows,
            dead_fraction=int(dead.sum()) / len(dead),
            rows_per_s=rows_per_s,
        )
        if close_window:
            self._curve.append(point)
            self._sums = dict.fromkeys(_SUMS, 0.0)
            self._window_rows = 0
        return point

    def checkpoint(self, identity: RunIdentity) -> Checkpoint:
        """Return all of the state; the tensors are the live ones."""
        tensors = {
            "silent_rows": self._silent_rows,
            "mean": self.normalisation.mean,
            **self.tensors,
        }
        state: dict[str, object] = {
            **identity.to_dict(),
            "scale": self.normalisation.scale,
            "variance": self.normalisation.variance,
            "init_hash": self._init_hash,
            "rows": self._rows,
            "window_rows": self._window_rows,
            "sums": dict(self._sums),
            "curve": [point.to_dict() for point in self._curve],
        }
        return Checkpoint(step=self.step, state=state, tensors=tensors)

    @classmethod
    def restore(
        cls, checkpoint: Checkpoint, plan: TrainPlan, identity: RunIdentity, device: torch.device
    ) -> "TrainState":
        """Return the state that a checkpoint holds.

        Raises:
            Conflict: the checkpoint is of another run.
            CorruptData: a part of the checkpoint is missing or of another shape.
        """
        try:
            identity.require(checkpoint.state)
            return cls._restored(checkpoint, plan, device)
        except (KeyError, TypeError, InvalidInput) as error:
            raise CorruptData(
                f"the checkpoint of step {checkpoint.step} lacks a part ({error!r}); delete the "
                "directory to train from the start"
            ) from error

    @classmethod
    def _restored(
        cls, checkpoint: Checkpoint, plan: TrainPlan, device: torch.device
    ) -> "TrainState":
        found = checkpoint.state
        normalisation = Normalisation(
            scale=cast("float", found["scale"]),
            variance=cast("float", found["variance"]),
            mean=checkpoint.tensors["mean"],
        )
        # begun anew for the names and shapes of its tensors, then overwritten
        state = cls._begin(plan, normalisation, device, checkpoint.step)
        for name, tensor in {"silent_rows": state._silent_rows, **state.tensors}.items():
            kept = checkpoint.tensors[name]
            if kept.shape != tensor.shape or kept.dtype != tensor.dtype:
                raise CorruptData(
                    f"{name} of the checkpoint is {kept.dtype} {tuple(kept.shape)}; wanted "
                    f"{tensor.dtype} {tuple(tensor.shape)}"
                )
            tensor.copy_(kept)
        state._init_hash = cast("str", found["init_hash"])
        sums = cast("Mapping[str, float]", found["sums"])
        state._sums = {name: float(sums[name]) for name in _SUMS}
        state._rows = cast("int", found["rows"])
        state._window_rows = cast("int", found["window_rows"])
        curve = cast("list[Mapping[str, object]]", found["curve"])
        state._curve = [TrainProgress.from_dict(point) for point in curve]
        return state

    def export(self, plan: TrainPlan, identity: RunIdentity) -> SparseDictionary:
        """Return the dictionary of raw activations, on the CPU."""
        trained = {name: tensor.cpu() for name, tensor in self.tensors.items()}
        tensors = plan.kind.export(trained, self.normalisation)
        initial = initial_decoder(plan.kind.features, len(plan.connection.writes), plan.config.seed)
        provenance = DictionaryProvenance(
            sites=identity.trained_sites(),
            config=identity.config,
            init_seed=plan.config.seed,
            init_hash=self._init_hash,
            init_cosine=mean_cosine(tensors["decoder"], initial),
            weights_sha256=tensors_hash(plan.kind, tensors),
            rows_trained=self._rows,
            input_scale=self.normalisation.scale,
            curve=tuple(self._curve),
        )
        return SparseDictionary(
            kind=plan.config.kind,
            settings=plan.kind,
            wiring=plan.config.wiring,
            tensors=tensors,
            provenance=provenance,
        )


def mean_cosine(directions: Tensor, others: Tensor) -> float:
    """Return the mean over rows of the cosine between two ``[features, width]``, in float64."""
    left, right = (rows.to(torch.float64).numpy() for rows in (directions, others))
    dots = (left * right).sum(axis=1)
    norms = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    return float((dots / np.maximum(norms, 1e-300)).mean())
