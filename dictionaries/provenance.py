"""Where a dictionary comes from: recording, settings, initial weights, curve. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import cast

from isogloss.dictionaries.config import TrainConfig
from isogloss.errors import CorruptData


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainProgress:
    """Where a training run stands; the figures are means over the steps since the last point."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    """Steps of the whole run."""
    rows: int
    """Rows trained on, repeats counted."""
    fvu: float
    """Fraction of variance unexplained on the training rows, before each step's update."""
    loss: float
    """Reconstruction loss plus the auxiliary loss, both as fractions of a variance."""
    l0: float
    """Features that fire per row."""
    dead_fraction: float
    """Share of features silent for ``dead_after_rows`` rows."""
    rows_per_s: float
    """Speed of this process since it started or resumed. The one field that a resumed run changes.
    """

    def to_dict(self) -> dict[str, int | float]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "TrainProgress":
        """Read what :meth:`to_dict` wrote.

        Raises:
            CorruptData: a field is missing, unknown or not a number.
        """
        names = [item.name for item in fields(cls)]
        if set(values) != set(names):
            raise CorruptData(f"a progress point has fields {sorted(values)}; wanted {names}")
        return cls(
            step=int(_number(values, "step")),
            total_steps=int(_number(values, "total_steps")),
            rows=int(_number(values, "rows")),
            fvu=float(_number(values, "fvu")),
            loss=float(_number(values, "loss")),
            l0=float(_number(values, "l0")),
            dead_fraction=float(_number(values, "dead_fraction")),
            rows_per_s=float(_number(values, "rows_per_s")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionaryProvenance:
    """All it takes to say what a dictionary was learned from, and to learn it again.

    The defaults describe a dictionary made by hand: no recording and no training.
    """

    recording: str = ""
    """Id of the recording."""
    recording_uid: str = ""
    """Unique id of the recording; ids can be reused after a deletion, this cannot."""
    site: str = ""
    """Site whose rows were read."""
    revision: Mapping[str, object] = field(default_factory=dict[str, object])
    """Pinned revision of the recording (``Revision.to_dict()``)."""
    config: TrainConfig | None = None
    """Settings of the run."""
    init_seed: int | None = None
    """Seed of the initial decoder, see ``initial_decoder``."""
    init_hash: str = ""
    """Sha256 of the initial decoder: equal hashes mean a shared initialisation."""
    init_cosine: float | None = None
    """Mean over features of the cosine between final and initial decoder direction."""
    weights_sha256: str = ""
    """Sha256 over the saved tensors' bytes, see ``autoencoder.weights_hash``."""
    rows_trained: int = 0
    """Rows trained on, repeats counted."""
    input_scale: float = 1.0
    """Factor rows were multiplied by during training; already folded into the weights."""
    curve: tuple[TrainProgress, ...] = ()
    """Training curve, about a hundred points."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values."""
        values: dict[str, object] = {item.name: getattr(self, item.name) for item in fields(self)}
        values["revision"] = dict(self.revision)
        values["config"] = None if self.config is None else self.config.to_dict()
        values["curve"] = [point.to_dict() for point in self.curve]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "DictionaryProvenance":
        """Read what :meth:`to_dict` wrote.

        Raises:
            CorruptData: a field is missing, unknown or of the wrong type.
        """
        names = [item.name for item in fields(cls)]
        if set(values) != set(names):
            raise CorruptData(f"provenance has fields {sorted(values)}; wanted {names}")
        config, curve = values["config"], values["curve"]
        if not isinstance(curve, list) or not isinstance(values["revision"], Mapping):
            raise CorruptData("provenance: wanted a list as curve and an object as revision")
        seed, cosine = values["init_seed"], values["init_cosine"]
        return cls(
            **{
                name: _string(values, name)
                for name in ("recording", "recording_uid", "site", "init_hash", "weights_sha256")
            },
            revision=cast("Mapping[str, object]", values["revision"]),
            config=None if config is None else TrainConfig.from_dict(_object(config)),
            init_seed=None if seed is None else int(_number(values, "init_seed")),
            init_cosine=None if cosine is None else float(_number(values, "init_cosine")),
            rows_trained=int(_number(values, "rows_trained")),
            input_scale=float(_number(values, "input_scale")),
            curve=tuple(
                TrainProgress.from_dict(_object(point)) for point in cast("list[object]", curve)
            ),
        )


def _number(values: Mapping[str, object], name: str) -> int | float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorruptData(f"{name} is {value!r}; wanted a number")
    return value


def _string(values: Mapping[str, object], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise CorruptData(f"{name} is {value!r}; wanted a string")
    return value


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise CorruptData(f"found {value!r}; wanted an object")
    return cast("Mapping[str, object]", value)
