"""The tensors and counts that change while a run trains; written to checkpoints and read back."""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.initialise import tensor_hash
from isogloss.dictionaries.kinds.kind import Normalisation, StepBatch
from isogloss.dictionaries.provenance import DictionaryProvenance, TrainProgress
from isogloss.dictionaries.rows.batches import TrainingBatch
from isogloss.dictionaries.rows.measure import Measured, measure_rows, restored_normalisation
from isogloss.dictionaries.rows.usual import UsualRows
from isogloss.dictionaries.sparse_dictionary import SparseDictionary, tensors_hash
from isogloss.dictionaries.training.checkpoints import Checkpoint
from isogloss.dictionaries.training.controls import Anchor
from isogloss.dictionaries.training.identity import RunIdentity
from isogloss.dictionaries.training.plan import TrainPlan
from isogloss.dictionaries.training.skip import PREFIX, exported_skip, start_skip
from isogloss.dictionaries.training.start import initial_weights
from isogloss.dictionaries.wirings.wiring import site_columns
from isogloss.errors import Conflict, CorruptData, InvalidInput, NonFiniteRows
from isogloss.kernels import StepResult, inside_columns

_SUMS = ("squared_error", "loss", "fires")


class TrainState:
    """The tensors of the kind, and counters of the run, between two steps."""

    def __init__(
        self,
        *,
        tensors: dict[str, Tensor],
        silent_rows: Tensor,
        measured: Measured,
        init_hash: str,
        held: Anchor | None = None,
        step: int = 0,
    ) -> None:
        self.tensors = tensors
        self.measured = measured
        self.held = held
        self.step = step
        self._silent_rows = silent_rows  # rows since each feature fired, int64 [features]
        self._init_hash = init_hash
        self._rows = 0
        self._left_out = 0
        self._curve: list[TrainProgress] = []
        self._sums = dict.fromkeys(_SUMS, 0.0)  # over the rows since the last point of the curve
        self._window_rows = 0
        self._usual = [0.0, 0.0]  # squared error and number of usual rows, since that point
        self._sites: list[float] = []  # squared error by site, since that point

    @property
    def normalisation(self) -> Normalisation:
        """How rows are scaled."""
        return self.measured.normalisation

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
        return cls.start_with(plan, measure(plan), device)

    @classmethod
    def start_with(
        cls,
        plan: TrainPlan,
        measured: Measured,
        device: torch.device,
        given: Tensor | None = None,
    ) -> "TrainState":
        """Return the state before the first step, of rows that are measured already.

        Raises:
            InvalidInput: the kind cannot be trained on these rows, or from the given decoder.
            ShapeError: the given decoder has another shape.
        """
        return cls._begin(plan, measured, device, given=given)

    @classmethod
    def _begin(
        cls,
        plan: TrainPlan,
        measured: Measured,
        device: torch.device,
        *,
        given: Tensor | None = None,
        step: int = 0,
    ) -> "TrainState":
        initial = initial_weights(plan, measured, given)
        started = plan.kind.start(initial)
        own = {"silent_rows", "mean", "centre"}
        taken = sorted(name for name in started if name in own or name.startswith(PREFIX))
        if taken:
            raise InvalidInput(
                f"kind {plan.config.kind!r} has tensors named {taken}, names that a checkpoint "
                "needs for the run itself; wanted other names"
            )
        if plan.connection.skip:
            started |= start_skip(len(plan.connection.writes), len(plan.connection.reads))
        control, held = plan.config.control, None
        if control is not None:
            here = {name: tensor.to(device) for name, tensor in started.items()}
            held = Anchor(control, here, free_norms=plan.kind.free_norms)
        return cls(
            held=held,
            tensors={name: tensor.to(device) for name, tensor in started.items()},
            silent_rows=torch.zeros(plan.kind.features, dtype=torch.int64, device=device),
            measured=measured,
            init_hash=tensor_hash(initial.decoder),
            step=step,
        )

    def dead(self, dead_after_rows: int) -> Tensor | None:
        """Return bool ``[features]``: which did not fire for so many rows; None if all did."""
        dead = self._silent_rows >= dead_after_rows
        return dead if bool(dead.any()) else None

    def live(self, dead_after_rows: int) -> int:
        """Return how many features fired within so many rows."""
        return int((self._silent_rows < dead_after_rows).sum())

    def left_out(self, rows: int) -> None:
        """Take note of rows of this step that are not trained on."""
        self._left_out += rows

    def pass_over(self) -> None:
        """Take note of a step all of whose rows are left out."""
        self.step += 1

    def count_parts(
        self, plan: TrainPlan, batch: TrainingBatch, taken: StepBatch, result: StepResult
    ) -> None:
        """Take note of the squared error of usual rows and of each site.

        Nothing is known of either where a kind returns no residual.
        """
        residual, rows = result.residual, len(batch.rows)
        if residual is None or (batch.usual is None and not plan.parts):
            self._usual[0] += result.squared_error * rows
            self._usual[1] += rows
            return
        squares = residual.to(torch.float64).square().cpu().numpy()
        usual = squares if batch.usual is None else squares[batch.usual]
        self._usual[0] += float(usual.sum())
        self._usual[1] += len(usual)
        errors = [float(squares[:, part.start : part.stop].sum()) for part in taken.parts]
        before = self._sites or [0.0] * len(errors)
        self._sites = [old + new for old, new in zip(before, errors, strict=True)]

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
        rows = max(self._window_rows, 1)
        dead = self._silent_rows >= plan.derived.dead_after_rows
        point = TrainProgress(
            step=self.step,
            total_steps=plan.total_steps,
            rows=self._rows,
            fvu=self._sums["squared_error"] / rows / self.measured.full_variance,
            loss=self._sums["loss"] / rows,
            l0=self._sums["fires"] / rows,
            dead_fraction=int(dead.sum()) / len(dead),
            rows_per_s=rows_per_s,
            usual_fvu=self._usual[0] / max(self._usual[1], 1) / self.normalisation.variance,
            # every site is scaled to a variance of its width
            site_fvu=tuple(
                error / rows / len(part)
                for error, part in zip(self._sites, plan.parts, strict=bool(self._sites))
            ),
        )
        if close_window:
            self._curve.append(point)
            self._sums = dict.fromkeys(_SUMS, 0.0)
            self._window_rows = 0
            self._usual, self._sites = [0.0, 0.0], []
        return point

    def checkpoint(self, identity: RunIdentity) -> Checkpoint:
        """Return all of the state; the tensors are the live ones."""
        tensors = {
            "silent_rows": self._silent_rows,
            "mean": self.normalisation.mean,
            "centre": _centres(self.measured),
            **self.tensors,
        }
        state: dict[str, object] = {
            **identity.to_dict(),
            "scale": self.normalisation.scale,
            "variance": self.normalisation.variance,
            "full_variance": self.measured.full_variance,
            "site_scales": list(self.measured.scales),
            "limits": [_finite(usual.limit) for usual in self.measured.usual],
            "medians": [usual.median for usual in self.measured.usual],
            "leave_out": self.measured.leave_out,
            "left_out": self._left_out,
            "usual": list(self._usual),
            "sites_error": list(self._sites),
            "init_hash": self._init_hash,
            "rows": self._rows,
            "window_rows": self._window_rows,
            "sums": dict(self._sums),
            "curve": [point.to_dict() for point in self._curve],
        }
        return Checkpoint(step=self.step, state=state, tensors=tensors)

    @classmethod
    def restore(
        cls,
        checkpoint: Checkpoint,
        plan: TrainPlan,
        identity: RunIdentity,
        device: torch.device,
        given: Tensor | None = None,
    ) -> "TrainState":
        """Return the state that a checkpoint holds.

        Raises:
            Conflict: the checkpoint is of another run, or began with another given decoder.
            CorruptData: a part of the checkpoint is missing or of another shape.
        """
        try:
            identity.require(checkpoint.state)
            return cls._restored(checkpoint, plan, device, given)
        except (KeyError, TypeError, InvalidInput) as error:
            raise CorruptData(
                f"the checkpoint of step {checkpoint.step} lacks a part ({error!r}); delete the "
                "directory to train from the start"
            ) from error

    @classmethod
    def _restored(
        cls, checkpoint: Checkpoint, plan: TrainPlan, device: torch.device, given: Tensor | None
    ) -> "TrainState":
        found = checkpoint.state
        # begun anew for the names and shapes of its tensors, then overwritten
        measured = _measured(checkpoint, plan)
        state = cls._begin(plan, measured, device, given=given, step=checkpoint.step)
        if given is not None and state._init_hash != found["init_hash"]:
            raise Conflict(
                f"the run began with a decoder of hash {found['init_hash']}, the given one gives "
                f"{state._init_hash}: give the same decoder, or train into another directory"
            )
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
        # checkpoints of earlier releases lack what stands here; they left no rows out
        state._left_out = cast("int", found.get("left_out", 0))
        before = [state._sums["squared_error"], float(state._window_rows)]
        state._usual = list(cast("list[float]", found.get("usual", before)))
        state._sites = list(cast("list[float]", found.get("sites_error", [])))
        curve = cast("list[Mapping[str, object]]", found["curve"])
        state._curve = [TrainProgress.from_dict(point) for point in curve]
        return state

    def export(
        self, plan: TrainPlan, identity: RunIdentity, given: Tensor | None = None
    ) -> SparseDictionary:
        """Return the dictionary of raw activations, on the CPU."""
        trained = {name: tensor.cpu() for name, tensor in self.tensors.items()}
        reads = plan.connection.reads
        tensors = plan.kind.export(trained, self.normalisation)
        _check_columns(plan, tensors)
        if plan.connection.skip:
            mean = self.normalisation.mean[reads.start : reads.stop]
            tensors |= exported_skip(trained, mean, self.normalisation)
        initial = initial_weights(plan, self.measured, given).decoder
        provenance = DictionaryProvenance(
            sites=identity.sites,
            config=identity.config,
            init_seed=plan.seed,
            init_hash=self._init_hash,
            init_cosine=mean_cosine(tensors["decoder"], initial),
            weights_sha256=tensors_hash(plan.kind, tensors),
            rows_trained=self._rows,
            rows_left_out=self._left_out,
            input_scale=self.normalisation.scale,
            derived=plan.derived.to_dict(),
            curve=tuple(self._curve),
        )
        return SparseDictionary(
            kind=plan.config.kind,
            settings=plan.kind,
            wiring=plan.config.wiring,
            tensors=tensors,
            provenance=provenance,
        )


def measure(plan: TrainPlan) -> Measured:
    """Measure the rows of a plan, see ``measure_rows``."""
    return measure_rows(plan.joined, plan.keep, plan.connection, plan.config.leave_out)


def _measured(checkpoint: Checkpoint, plan: TrainPlan) -> Measured:
    """Return what was known of the rows; earlier releases had one scale, and left no row out."""
    found, widths = checkpoint.state, plan.joined.widths
    scale, variance = cast("float", found["scale"]), cast("float", found["variance"])
    scales = tuple(cast("list[float]", found.get("site_scales", [scale] * len(widths))))
    usual: tuple[UsualRows, ...] = ()
    if found.get("limits"):
        centre = checkpoint.tensors["centre"].numpy()
        limits = cast("list[float | None]", found["limits"])
        medians = cast("list[float]", found["medians"])
        usual = tuple(
            UsualRows(
                centre=centre[part.start : part.stop],
                median=median,
                limit=np.inf if limit is None else limit,
            )
            for part, median, limit in zip(site_columns(widths), medians, limits, strict=True)
        )
    return Measured(
        normalisation=restored_normalisation(
            scales, widths, plan.connection, variance=variance, mean=checkpoint.tensors["mean"]
        ),
        scales=scales,
        usual=usual,
        leave_out=bool(found.get("leave_out", False)),
        full_variance=cast("float", found.get("full_variance", variance)),
    )


def _centres(measured: Measured) -> Tensor:
    return torch.from_numpy(np.concatenate([np.zeros(0), *(u.centre for u in measured.usual)]))


def _finite(limit: float) -> float | None:
    """Return None for infinity, which JSON lacks."""
    return limit if np.isfinite(limit) else None


def _check_columns(plan: TrainPlan, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a kind whose features write to other columns than they may."""
    if plan.columns is None:
        return
    outside = ~inside_columns(plan.columns, tensors["decoder"].shape[1])
    if bool(tensors["decoder"][outside].any()):
        raise InvalidInput(
            f"kind {plan.config.kind!r} does not hold features to the columns that it was given "
            "(StepBatch.columns): set dedicated to 0, or train another kind"
        )


def mean_cosine(directions: Tensor, others: Tensor) -> float:
    """Return the mean over rows of the cosine between two ``[features, width]``, in float64."""
    left, right = (rows.to(torch.float64).numpy() for rows in (directions, others))
    dots = (left * right).sum(axis=1)
    norms = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    return float((dots / np.maximum(norms, 1e-300)).mean())
