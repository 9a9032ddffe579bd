"""Settings with which a dictionary is trained. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal, TypeAlias, cast

from msgspec import Meta

from isogloss.dictionaries.kinds.table import DEFAULT_KIND
from isogloss.dictionaries.settings import Settings, read_settings, settings_to_dict
from isogloss.dictionaries.wirings.table import DEFAULT_WIRING
from isogloss.short_repr import short_repr

ControlName: TypeAlias = Literal["frozen_decoder", "frozen_encoder", "soft_frozen_decoder"]
"""What of a dictionary is held to its random start, see ``training/controls.py``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaveOut(Settings):
    """Which rows of the training documents are not trained on.

    Rows of huge norm, such as those of a text's first token, hold nearly all of the variance: a
    dictionary that is trained on them learns them, and little of the others.
    """

    max_norm: Annotated[float, Meta(ge=0)] | None = None
    """Rows whose distance from the centre (the median of each column) is more than so many times
    the median distance, at any site. None: 10 times, unless more than a fifth of the rows lie so
    far out; 0: no row."""
    positions: Annotated[int, Meta(ge=0)] = 0
    """Rows at positions below this in their document."""
    document_starts: bool = False
    """The first row of each document."""
    non_finite: bool = False
    """Rows that hold NaN or infinity at some site. False: training refuses them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Init(Settings):
    """Where the weights of a run start; see ``training/start.py``."""

    directions: Literal["random", "rows", "given"] = "random"
    """Of the features: random; rows less their mean, drawn by the seed; or those of a decoder that
    the caller gives, such as one that was saved, or another model's through a map (``maps.py``)."""
    sha256: str = ""
    """Which decoder is given (``tensor_hash`` of it, float32); empty: any. A run is resumed with
    the same one only."""
    bias: Literal["mean", "median"] = "mean"
    """Of the decoder: the mean of the rows, or their geometric median."""
    dictionary: str = ""
    """Id of the stored dictionary whose decoder a job gives; empty: it is given by the caller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(Settings):
    """Settings of one training run: those of its kind and wiring, and those that every kind has.

    The fields here are checked when it is made. ``settings`` is checked by kind and wiring, which
    know what they mean, when training begins; see :func:`isogloss.dictionaries.complete_config`.

    What is None is derived from width, features, rows and batch when the run is planned, see
    ``training/recipe.py``; the values are logged, and kept as ``derived`` of the provenance. Not
    settings, because one choice served every run measured: linear warm-up over 1 % of the steps (at
    most 1,000), input scaled to a total variance equal to its width.

    Raises:
        InvalidInput: a value is of another type or out of its range.
    """

    kind: str = DEFAULT_KIND
    """Name of an architecture: a row of ``kinds/table.py``, or one that an installed package
    offers.
    """
    settings: Mapping[str, object]
    """Settings of the kind, such as ``{"features": 4096, "k": 32}`` (every kind has ``features``),
    and of the wiring, such as ``skip``, by name."""
    wiring: str = DEFAULT_WIRING
    """Name of a wiring, which says which sites are read and which are reconstructed: a row of
    ``wirings/table.py``, or one that an installed package offers.
    """
    batch_rows: Annotated[int, Meta(ge=1, le=2**24)] | None = None
    """Rows per optimiser step; None: 384."""
    epochs: Annotated[float, Meta(gt=0, le=1e6)] = 4.0
    """Passes over the training rows; a fraction is part of a pass."""
    learning_rate: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """Peak of the schedule; None: see ``default_learning_rate`` in ``training/recipe.py``."""
    decay: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """Last share of the steps, over which the learning rate falls linearly to zero."""
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """Seed of the initial weights and of the order of the rows; None: one made of recordings, sites
    and kind, so that dictionaries of different models do not start from the same weights."""
    holdout: Annotated[float, Meta(ge=0, le=0.999)] = 0.25
    """Share of the documents kept out of training: those whose split position is below this."""
    dead_after_rows: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """A feature silent for so many rows is dead; None: 10,000, or 100 times the mean number of rows
    between two firings if that is more."""
    checkpoint_every: Annotated[int, Meta(ge=1, le=2**53)] = 250
    """Steps between checkpoints. Does not change the result."""
    steps: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    """Training steps of the recorded model whose rows are trained on; empty: the one that the
    recording has."""
    leave_out: LeaveOut = LeaveOut()
    """Rows that are not trained on."""
    rows_seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """Seed of the order of the rows; None: ``seed``. Runs that share it read the same rows, and so
    can be trained from one read, whatever weights they start from."""
    controls: tuple[ControlName, ...] = ()
    """Controls that a job trains beside the dictionary, from the same read; each is this run with
    ``control``. ``with_controls`` in ``training/controls.py`` makes their configs."""
    control: ControlName | None = None
    """What is held to its start, to say what training is worth beside it (arXiv 2602.14111); see
    ``training/controls.py``. None: nothing, the dictionary is trained."""

    init: Init = Init()
    """Where the weights start."""

    __repr__ = short_repr

    def to_dict(self) -> dict[str, object]:
        """Return every field as JSON-ready values; later ones only where they are given."""
        values = settings_to_dict(self)
        for name in ("steps", "rows_seed", "controls", "control"):
            if not values[name] and values[name] != 0:
                del values[name]  # releases that do not know the field refuse it
        if not self.leave_out.non_finite:
            kept = cast("Mapping[str, object]", values["leave_out"])
            values["leave_out"] = {name: kept[name] for name in kept if name != "non_finite"}
        if self.init == Init():
            del values["init"]
        elif not self.init.dictionary:
            init = cast("Mapping[str, object]", values["init"])
            values["init"] = {name: init[name] for name in init if name != "dictionary"}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "TrainConfig":
        """Build from JSON values; missing fields take their defaults.

        Without a field ``settings``, every value that is not one of the fields here is taken as a
        setting of the kind: configs were flat before there were several kinds.

        Raises:
            InvalidInput: an unknown field, or a value of another type or out of its range.
        """
        if "settings" not in values:
            common = {field.name for field in fields(cls)}
            settings = {name: value for name, value in values.items() if name not in common}
            values = {name: value for name, value in values.items() if name in common}
            values = {**values, "settings": settings}
        for name, part in (("leave_out", LeaveOut), ("init", Init)):
            if isinstance(values.get(name), Mapping):
                given = cast("Mapping[str, object]", values[name])
                values = {**values, name: read_settings(part, given, name)}
        return read_settings(cls, values, "a training run")

    def differences(self, other: "TrainConfig") -> list[str]:
        """Name what differs between two configs, other than ``checkpoint_every`` and ``controls``.

        Settings of the kind are named first, by their own names. Settings that one of the two
        leaves out count as different: complete both before comparing.
        """
        settings = sorted({*self.settings, *other.settings})
        apart = ("settings", "checkpoint_every", "steps", "controls")
        common = [f.name for f in fields(self) if f.name not in apart]
        return [
            *(name for name in settings if self.settings.get(name) != other.settings.get(name)),
            *(name for name in common if getattr(self, name) != getattr(other, name)),
            *(["steps"] if {*self.steps} != {*other.steps} else []),
        ]
