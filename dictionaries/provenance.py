"""How a dictionary was made: recording, settings, initial weights, curve. Imports no torch."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import cast

from isogloss.dictionaries.config import TrainConfig
from isogloss.errors import CorruptData, InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store import check_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainProgress:
    """How far a training run is; its figures are means over the steps since the last report."""

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
    usual_fvu: float | None = None
    """``fvu`` of the usual rows alone, without those far from all others, such as attention sinks;
    None: not known, as in dictionaries of earlier releases."""
    site_fvu: tuple[float, ...] = ()
    """``fvu`` of each site that is reconstructed, where there are several."""

    __repr__ = short_repr

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values."""
        return {**asdict(self), "site_fvu": list(self.site_fvu)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "TrainProgress":
        """Read what :meth:`to_dict` wrote.

        Raises:
            CorruptData: a field is missing, unknown or not a number.
        """
        names = [item.name for item in fields(cls)]
        later = {"usual_fvu": None, "site_fvu": []}
        values = {**later, **values}
        if set(values) != set(names):
            raise CorruptData(f"a progress point has fields {sorted(values)}; wanted {names}")
        usual = values["usual_fvu"]
        sites = [{"site_fvu": value} for value in _list(values, "site_fvu")]
        return cls(
            step=_count(values, "step"),
            total_steps=_count(values, "total_steps"),
            rows=_count(values, "rows"),
            fvu=_number(values, "fvu"),
            loss=_number(values, "loss"),
            l0=_number(values, "l0"),
            dead_fraction=_number(values, "dead_fraction"),
            rows_per_s=_number(values, "rows_per_s"),
            usual_fvu=None if usual is None else _number(values, "usual_fvu"),
            site_fvu=tuple(_number(one, "site_fvu") for one in sites),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedSite:
    """A site whose rows a dictionary was trained on."""

    recording: str
    """Id of the recording."""
    recording_uid: str
    """Unique id of the recording; ids can be reused after a deletion, this cannot."""
    site: str
    """Name of the site."""
    revision: Mapping[str, object]
    """Pinned revision of the recording (``Revision.to_dict()``)."""
    steps: tuple[int, ...] = (0,)
    """Training steps of the recorded model whose rows were trained on, ascending; 0: outside
    training."""

    __repr__ = short_repr

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values, ``steps`` only where one of them is not 0."""
        values = asdict(self)
        if not any(values.pop("steps")):
            return values  # as releases that know no steps read it
        return {**values, "steps": list(self.steps)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "TrainedSite":
        """Read what :meth:`to_dict` wrote.

        Raises:
            CorruptData: a field is missing, unknown or of the wrong type.
        """
        names = [item.name for item in fields(cls)]
        if set(values) not in (set(names), set(names) - {"steps"}):
            raise CorruptData(f"a site trained on has fields {sorted(values)}; wanted {names}")
        return cls(
            recording=_string(values, "recording"),
            recording_uid=_string(values, "recording_uid"),
            site=_string(values, "site"),
            revision=_object(values["revision"]),
            steps=_steps(values),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionaryProvenance:
    """All it takes to say what a dictionary was learned from, and to learn it again.

    The defaults describe a dictionary made by hand: no recording and no training.

    Raises:
        InvalidInput: ``input_scale`` is not a finite number above 0.
    """

    sites: tuple[TrainedSite, ...] = ()
    """Sites whose rows were read, in the order in which the wiring was given them."""
    config: TrainConfig | None = None
    """Settings of the run, those of its kind written out in full."""
    init_seed: int | None = None
    """Seed of the initial decoder, see ``initial_decoder``."""
    init_hash: str = ""
    """Sha256 of the initial decoder: equal hashes mean a shared initialisation."""
    init_cosine: float | None = None
    """Mean over features of the cosine between final and initial decoder direction."""
    weights_sha256: str = ""
    """Sha256 over the saved tensors' bytes, see ``sparse_dictionary.tensors_hash``."""
    rows_trained: int = 0
    """Rows trained on, repeats counted."""
    rows_left_out: int = 0
    """Rows that were not trained on because they are far from all others, repeats counted."""
    input_scale: float = 1.0
    """Factor rows were multiplied by during training; already folded into the weights. Of several
    sites: the mean factor of those that are reconstructed."""
    derived: Mapping[str, int | float] = field(default_factory=dict[str, int | float])
    """What the run did beside its config, by name: rows of a step, peak learning rate, steps of
    its rise, rows of silence after which a feature is dead. Empty for dictionaries of releases that
    did not keep it."""
    curve: tuple[TrainProgress, ...] = ()
    """Training curve, about a hundred points."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not 0 < self.input_scale < math.inf:
            raise InvalidInput(
                f"input_scale is {self.input_scale}; wanted a finite number above 0, such as 1 for "
                "rows that were not scaled"
            )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values."""
        values: dict[str, object] = {item.name: getattr(self, item.name) for item in fields(self)}
        values["sites"] = [site.to_dict() for site in self.sites]
        values["config"] = None if self.config is None else self.config.to_dict()
        values["curve"] = [point.to_dict() for point in self.curve]
        values["derived"] = dict(self.derived)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "DictionaryProvenance":
        """Read what :meth:`to_dict` wrote, in this form or in that of one site only.

        Raises:
            CorruptData: a field is missing, unknown or of the wrong type.
            InvalidInput: a field of the config is out of its range.
        """
        values = {"rows_left_out": 0, "derived": {}, **_with_sites(values)}
        names = [item.name for item in fields(cls)]
        if set(values) != set(names):
            raise CorruptData(f"provenance has fields {sorted(values)}; wanted {names}")
        config = values["config"]
        seed, cosine = values["init_seed"], values["init_cosine"]
        return cls(
            sites=tuple(TrainedSite.from_dict(_object(site)) for site in _list(values, "sites")),
            config=None if config is None else TrainConfig.from_dict(_object(config)),
            init_seed=None if seed is None else _count(values, "init_seed"),
            init_hash=_string(values, "init_hash"),
            init_cosine=None if cosine is None else _number(values, "init_cosine"),
            weights_sha256=_string(values, "weights_sha256"),
            rows_trained=_count(values, "rows_trained"),
            rows_left_out=_count(values, "rows_left_out"),
            input_scale=_number(values, "input_scale"),
            derived=_numbers(_object(values["derived"])),
            curve=tuple(
                TrainProgress.from_dict(_object(point)) for point in _list(values, "curve")
            ),
        )


def _numbers(values: Mapping[str, object]) -> dict[str, int | float]:
    """Return numbers by name, whole ones as such."""
    found = {name: _number(values, name) for name in values}
    return {name: int(one) if one.is_integer() else one for name, one in found.items()}


def _with_sites(values: Mapping[str, object]) -> Mapping[str, object]:
    """Bring the form of one site, whose fields stood beside the others, into today's."""
    names = [item.name for item in fields(TrainedSite) if item.name != "steps"]
    if "sites" in values or not set(names) <= set(values):
        return values
    site = {name: values[name] for name in names}
    made_by_hand = site == {"recording": "", "recording_uid": "", "site": "", "revision": {}}
    rest = {name: value for name, value in values.items() if name not in names}
    return {**rest, "sites": [] if made_by_hand else [site]}


def _number(values: Mapping[str, object], name: str) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorruptData(f"{name} is {value!r}; wanted a number")
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise CorruptData(f"{name} is a number that a float does not hold; wanted a finite one")
    return float(value)


def _count(values: Mapping[str, object], name: str) -> int:
    value = _number(values, name)
    if not (value.is_integer() and 0 <= value < 2**63):
        raise CorruptData(f"{name} is {value:g}; wanted a whole number from 0 to 2**63")
    return int(cast("int | float", values[name]))


def _string(values: Mapping[str, object], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise CorruptData(f"{name} is {value!r}; wanted a string")
    return value


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise CorruptData(f"found {value!r}; wanted an object")
    return cast("Mapping[str, object]", value)


def _steps(values: Mapping[str, object]) -> tuple[int, ...]:
    if "steps" not in values:
        return (0,)
    try:
        return check_steps(_list(values, "steps"))
    except InvalidInput as error:
        raise CorruptData(f"steps of a site trained on: {error}") from error


def _list(values: Mapping[str, object], name: str) -> list[object]:
    value = values[name]
    if not isinstance(value, list):
        raise CorruptData(f"{name} is {value!r}; wanted a list")
    return cast("list[object]", value)
