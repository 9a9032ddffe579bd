"""What changes while a run trains, and how it goes to a checkpoint and comes back."""

import importlib.metadata
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.autoencoder import SparseAutoencoder, moved, weights_hash
from isogloss.dictionaries.checkpoints import Checkpoint
from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.initialise import initial_decoder, initial_weights, tensor_hash
from isogloss.dictionaries.plan import Normalisation, TrainPlan, measure_rows
from isogloss.dictionaries.provenance import DictionaryProvenance, TrainProgress
from isogloss.errors import Conflict, CorruptData, InvalidInput, NonFiniteRows
from isogloss.kernels import AdamMoments, StepResult, Weights
from isogloss.store import RecordingReader

_LOG = logging.getLogger(__name__)
_SUMS = ("squared_error", "loss", "fires")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """What a run is of: a checkpoint of another identity is not resumed."""

    config: TrainConfig
    """Settings; ``checkpoint_every`` may differ."""
    recording: str
    """Id of the recording."""
    revision: Mapping[str, object]
    """Pinned revision, which names the recording's uid."""
    recording_uid: str
    """Unique id of the recording."""
    site: str
    """Site read."""

    @classmethod
    def of(cls, config: TrainConfig, reader: RecordingReader, site: str) -> "RunIdentity":
        """Identify the run of a config on a site of a pinned recording."""
        return cls(
            config=config,
            recording=reader.spec.recording,
            revision=reader.revision.to_dict(),
            recording_uid=reader.revision.recording,
            site=site,
        )

    def to_dict(self) -> dict[str, object]:
        """Return what a checkpoint keeps."""
        return {
            "config": self.config.to_dict(),
            "recording_uid": self.recording_uid,
            "revision": dict(self.revision),
            "site": self.site,
            "libraries": _libraries(),
        }

    def require(self, found: Mapping[str, object]) -> None:
        """Refuse a checkpoint of another run.

        Raises:
            Conflict: config, recording, revision or site differ; the message names them.
        """
        config = TrainConfig.from_dict(cast("Mapping[str, object]", found["config"]))
        differing = [f"config.{name}" for name in self.config.differences(config)]
        mine = self.to_dict()
        differing += [
            name for name in ("recording_uid", "revision", "site") if found[name] != mine[name]
        ]
        if differing:
            raise Conflict(
                f"the directory holds a run that differs in {', '.join(differing)}; train into "
                "another directory, or delete this one to start anew"
            )
        if found["libraries"] != mine["libraries"]:
            _LOG.warning(
                "the checkpoint was made with %s, this process has %s: the result may differ in "
                "its last bits from an uninterrupted run",
                found["libraries"],
                mine["libraries"],
            )


class TrainState:
    """Weights, optimiser moments and counters of a run between two steps."""

    def __init__(
        self,
        *,
        weights: Weights,
        moments: AdamMoments,
        silent_rows: Tensor,
        normalisation: Normalisation,
        init_hash: str,
        step: int = 0,
    ) -> None:
        self.weights = weights
        self.moments = moments
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
        """Where the tensors are."""
        return self.weights.encoder.device

    @classmethod
    def start(cls, reader: RecordingReader, plan: TrainPlan, device: torch.device) -> "TrainState":
        """Return the state before the first step."""
        normalisation = measure_rows(reader, plan)
        decoder = initial_decoder(plan.config.features, plan.width, plan.config.seed)
        weights = moved(initial_weights(decoder, normalisation.mean), device)
        return cls(
            weights=weights,
            moments=AdamMoments.zeros_like(weights),
            silent_rows=torch.zeros(plan.config.features, dtype=torch.int64, device=device),
            normalisation=normalisation,
            init_hash=tensor_hash(decoder),
        )

    def dead(self, dead_after_rows: int) -> Tensor | None:
        """Mark the features silent for so many rows, bool ``[features]``; None: there is none."""
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
        tensors = {"silent_rows": self._silent_rows, "mean": self.normalisation.mean}
        for part, group in self._groups().items():
            tensors |= {f"{part}.{name}": tensor for name, tensor in group.named().items()}
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
        """Return the state a checkpoint holds.

        Raises:
            Conflict: it is of another run.
            CorruptData: a part of it is missing or of another shape.
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
        tensors, found = checkpoint.tensors, checkpoint.state
        features, width = plan.config.features, plan.width

        def read(name: str, *shape: int) -> Tensor:
            if tuple(tensors[name].shape) != shape:
                raise CorruptData(
                    f"{name} of the checkpoint is {tuple(tensors[name].shape)}; wanted {shape}"
                )
            return tensors[name].to(device)

        def group(part: str) -> Weights:
            return Weights(
                encoder=read(f"{part}.encoder", features, width),
                encoder_bias=read(f"{part}.encoder_bias", features),
                decoder=read(f"{part}.decoder", features, width),
                decoder_bias=read(f"{part}.decoder_bias", width),
            )

        state = cls(
            weights=group("weights"),
            moments=AdamMoments(first=group("first"), second=group("second")),
            silent_rows=read("silent_rows", features),
            normalisation=Normalisation(
                scale=cast("float", found["scale"]),
                variance=cast("float", found["variance"]),
                mean=tensors["mean"],
            ),
            init_hash=cast("str", found["init_hash"]),
            step=checkpoint.step,
        )
        sums = cast("Mapping[str, float]", found["sums"])
        state._sums = {name: float(sums[name]) for name in _SUMS}
        state._rows = cast("int", found["rows"])
        state._window_rows = cast("int", found["window_rows"])
        curve = cast("list[Mapping[str, object]]", found["curve"])
        state._curve = [TrainProgress.from_dict(point) for point in curve]
        return state

    def export(self, plan: TrainPlan, identity: RunIdentity) -> SparseAutoencoder:
        """Fold the normalisation into the biases: the dictionary of raw activations, on the CPU.

        With s the scale, ``x' = s x`` and codes ``z' = s z``: dividing both biases by s gives the
        same features and the same directions, with codes in the unit of the activations.
        """
        scale = self.normalisation.scale
        trained = moved(self.weights, torch.device("cpu"))
        weights = Weights(
            encoder=trained.encoder.clone(),
            encoder_bias=trained.encoder_bias / scale,
            decoder=trained.decoder.clone(),
            decoder_bias=trained.decoder_bias / scale,
        )
        initial = initial_decoder(plan.config.features, plan.width, plan.config.seed)
        provenance = DictionaryProvenance(
            recording=identity.recording,
            recording_uid=identity.recording_uid,
            site=identity.site,
            revision=identity.revision,
            config=identity.config,
            init_seed=plan.config.seed,
            init_hash=self._init_hash,
            init_cosine=mean_cosine(weights.decoder, initial),
            weights_sha256=weights_hash(weights),
            rows_trained=self._rows,
            input_scale=scale,
            curve=tuple(self._curve),
        )
        return SparseAutoencoder(weights=weights, k=plan.config.k, provenance=provenance)

    def _groups(self) -> dict[str, Weights]:
        return {
            "weights": self.weights,
            "first": self.moments.first,
            "second": self.moments.second,
        }


def mean_cosine(directions: Tensor, others: Tensor) -> float:
    """Return the mean over rows of the cosine between two ``[features, width]``, in float64."""
    left, right = (rows.to(torch.float64).numpy() for rows in (directions, others))
    dots = (left * right).sum(axis=1)
    norms = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    return float((dots / np.maximum(norms, 1e-300)).mean())


def _libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("isogloss", "numba", "torch")}
