"""Specs of jobs: one dataclass for each kind of job, which checks itself.

A spec says what work to do. It is queued as plain JSON (``to_dict``) and read back by the worker
(``from_dict``). Names of recordings, dictionaries and probes are only checked for their form here;
whether they exist is checked when the job is submitted and again when it runs.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeVar, cast

from isogloss.errors import InvalidInput, InvalidName
from isogloss.service.values.json_fields import steps_of
from isogloss.service.values.results import SiteRef
from isogloss.store import check_id

GridName = Literal["tokens", "word_ends"]
"""What a segment of a probe is."""

MAX_PROCESSES = 1024
"""Processes that a training may ask for; the machine's processors bound them too."""

T = TypeVar("T")


class JobSpec(Protocol):
    """The members that the spec of every kind of job has; a spec is a frozen dataclass."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Make a spec from a parsed JSON object; InvalidInput or InvalidName if it is none."""
        ...

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON that ``from_dict`` reads."""
        ...

    @property
    def target(self) -> str:
        """Id of the thing that the job makes. No two unfinished jobs of a kind make the same."""
        ...

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """Resources that must not be deleted before the job has ended: kind in the catalog, id."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BesideSpec:
    """One of the further dictionaries of a training."""

    dictionary: str
    """Id of the dictionary to make."""
    config: Mapping[str, object]
    """Settings, as of a :class:`TrainSpec`."""

    def __post_init__(self) -> None:
        _check_target("dictionary", self.dictionary)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec:
    """Train a dictionary on the rows of sites, or several from one read."""

    dictionary: str
    """Id of the dictionary to make."""
    sources: tuple[SiteRef, ...]
    """The sites whose rows are read, as many as the wiring takes, in its order."""
    config: Mapping[str, object]
    """Settings of the training, as ``isogloss.dictionaries.TrainConfig.from_dict`` reads them."""
    beside: tuple[BesideSpec, ...] = ()
    """Further dictionaries, of other ids and settings, trained from the same read."""
    processes: int = 1
    """How many processes train together, on this machine."""

    def __post_init__(self) -> None:
        _check_target("dictionary", self.dictionary)
        if not 1 <= self.processes <= MAX_PROCESSES:
            raise InvalidInput(
                f"processes is {self.processes}, wanted 1 to {MAX_PROCESSES} that train together"
            )
        if twice := [name for name, count in Counter(self.dictionaries).items() if count > 1]:
            raise InvalidInput(
                f"dictionary {twice[0]!r} is asked for twice in one job: give each an id of its own"
            )

    @property
    def dictionaries(self) -> tuple[str, ...]:
        """Ids of all dictionaries that it makes."""
        return (self.dictionary, *(one.dictionary for one in self.beside))

    @property
    def configs(self) -> tuple[Mapping[str, object], ...]:
        """Settings of each of them."""
        return (self.config, *(one.config for one in self.beside))

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Read a spec from JSON, in this form or in that of one source only.

        Raises:
            InvalidInput: a field is missing or of the wrong type.
            InvalidName: the dictionary's name is not an id of lower-case letters, digits and
                hyphens.
        """
        return cls(
            dictionary=_field("train", values, "dictionary", str),
            sources=_sources(values),
            config=_object("train", values, "config"),
            beside=_beside(values),
            processes=_field("train", {"processes": 1, **values}, "processes", int),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON; one source stands in it as it did before there were several."""
        sources = [{"recording": s.recording, "site": s.site} for s in self.sources]
        where = sources[0] if len(sources) == 1 else {"sources": sources}
        made: dict[str, object] = {
            "dictionary": self.dictionary,
            **where,
            "config": dict(self.config),
        }
        if self.beside:
            made["beside"] = [
                {"dictionary": one.dictionary, "config": dict(one.config)} for one in self.beside
            ]
        if self.processes != 1:
            made["processes"] = self.processes
        return made

    @property
    def target(self) -> str:
        """Id of the first dictionary."""
        return self.dictionary

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """The recordings of all sources, and the dictionaries whose decoders runs start from."""
        starts = [started_from(config) for config in self.configs]
        return frozenset(
            {
                *(("recording", source.recording) for source in self.sources),
                *(("dictionary", name) for name in starts if name is not None),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSpec:
    """Build a probe if it does not exist, and encode dictionaries on it."""

    probe: str
    """Id of the probe."""
    recordings: tuple[str, ...]
    """Ids of the recordings whose shared documents it takes; those that the dictionaries were
    trained on are added."""
    dictionaries: tuple[str, ...]
    """Ids of the dictionaries to encode on it."""
    holdout: float | None = None
    """Share of the documents; None: 0.25, or less if a dictionary was trained with a smaller
    holdout.
    """
    grid: GridName | None = None
    """``tokens`` or ``word_ends``: what features are compared on. None: tokens where all recordings
    have one tokenizer, else words.
    """
    steps: tuple[int, ...] = ()
    """Training steps to compare at, one of each recording that has several; empty: those that the
    dictionaries were trained on.
    """

    def __post_init__(self) -> None:
        _check_target("probe", self.probe)
        if self.holdout is not None and not 0 <= self.holdout <= 1:
            raise InvalidInput(
                f"holdout is {self.holdout:g}, wanted a share of the documents in [0, 1]"
            )
        grid_name(self.grid)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Make a spec from a parsed JSON object.

        Args:
            values: the object's fields.

        Returns:
            The spec.

        Raises:
            InvalidInput: a field is missing or of the wrong type, or ``grid`` names no way of
                cutting text that this release knows.
            InvalidName: the probe's name is not an id of lower-case letters, digits and hyphens
                that starts with a letter.
        """
        return cls(
            probe=_field("probe", values, "probe", str),
            recordings=_texts("probe", values, "recordings"),
            dictionaries=_texts("probe", values, "dictionaries"),
            holdout=_number("probe", values, "holdout"),
            grid=grid_name(values.get("grid")),
            steps=steps_of(values),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON; what is None or empty of the settings is left out."""
        made: dict[str, object] = {
            "probe": self.probe,
            "recordings": list(self.recordings),
            "dictionaries": list(self.dictionaries),
        }
        if self.holdout is not None:
            made["holdout"] = self.holdout
        if self.grid is not None:
            made["grid"] = self.grid
        if self.steps:
            made["steps"] = list(self.steps)
        return made

    @property
    def target(self) -> str:
        """Id of the probe."""
        return self.probe

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """Its recordings and dictionaries."""
        return frozenset(
            {
                *(("recording", name) for name in self.recordings),
                *(("dictionary", name) for name in self.dictionaries),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchSpec:
    """Match the features of two dictionaries."""

    match: str
    """Id of the match to make."""
    a: str
    """Id of one dictionary."""
    b: str
    """Id of the other dictionary."""
    probe: str | None = None
    """Id of the probe to compare them on. None: the newest on which both are encoded; where there
    is none, one is built of their recordings.
    """
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """Settings, as ``isogloss.universality.MatchSettings`` writes them; empty: the defaults."""
    steps: tuple[int, ...] = ()
    """Training steps to compare at, see :class:`ProbeSpec`."""
    ceilings: tuple[str, ...] = ()
    """Ids of matches of one model with itself: what is the most that could be found."""
    floors: tuple[str, ...] = ()
    """Ids of matches in which one side has nothing to share: what is found anyway."""

    def __post_init__(self) -> None:
        _check_target("match", self.match)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Make a spec from a parsed JSON object.

        Raises:
            InvalidInput: a field is missing or of the wrong type.
            InvalidName: the match's name is not an id of lower-case letters, digits and hyphens.
        """
        has_probe = values.get("probe") not in (None, "")
        return cls(
            match=_field("match", values, "match", str),
            a=_field("match", values, "a", str),
            b=_field("match", values, "b", str),
            probe=_field("match", values, "probe", str) if has_probe else None,
            settings={} if values.get("settings") is None else _object("match", values, "settings"),
            steps=steps_of(values),
            ceilings=_texts("match", {"ceilings": [], **values}, "ceilings"),
            floors=_texts("match", {"floors": [], **values}, "floors"),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON."""
        return {
            "match": self.match,
            "a": self.a,
            "b": self.b,
            "probe": self.probe,
            "settings": dict(self.settings),
            **({"steps": list(self.steps)} if self.steps else {}),
            **({"ceilings": list(self.ceilings)} if self.ceilings else {}),
            **({"floors": list(self.floors)} if self.floors else {}),
        }

    @property
    def target(self) -> str:
        """Id of the match."""
        return self.match

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """Both dictionaries, the probe where one is named, and the matches to compare with."""
        probe = set[tuple[str, str]]() if self.probe is None else {("probe", self.probe)}
        references = {("match", name) for name in (*self.ceilings, *self.floors)}
        return frozenset({("dictionary", self.a), ("dictionary", self.b), *probe, *references})


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSpec:
    """Make a dictionary without weights of codes that another tool computed."""

    dictionary: str
    """Id of the dictionary to make."""
    probe: str
    """Id of the probe that the codes are on."""
    upload: str
    """SHA-256 of the codes, under which their parts were sent."""
    features: int
    """How many features the dictionary has."""
    recording: str | None = None
    """Id of the recording of the model that the features are of; None: that model is unknown."""
    site: str = ""
    """Site of that recording; empty: unknown."""
    origin: str = ""
    """What made the codes, for people."""

    def __post_init__(self) -> None:
        _check_target("dictionary", self.dictionary)
        if not 1 <= self.features < 1 << 31:
            raise InvalidInput(f"features is {self.features}, wanted 1 to 2**31 - 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Make a spec from a parsed JSON object.

        Raises:
            InvalidInput: a field is missing, of the wrong type or out of range.
            InvalidName: the dictionary's name is not an id of lower-case letters, digits and
                hyphens.
        """
        known = values.get("recording") is not None
        return cls(
            dictionary=_field("import", values, "dictionary", str),
            probe=_field("import", values, "probe", str),
            upload=_field("import", values, "upload", str),
            features=_field("import", values, "features", int),
            recording=_field("import", values, "recording", str) if known else None,
            site=_field("import", values, "site", str),
            origin=_field("import", values, "origin", str),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON."""
        return {
            "dictionary": self.dictionary,
            "probe": self.probe,
            "upload": self.upload,
            "features": self.features,
            "recording": self.recording,
            "site": self.site,
            "origin": self.origin,
        }

    @property
    def target(self) -> str:
        """Id of the dictionary."""
        return self.dictionary

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """The probe, and the recording where one is named."""
        recording = set[tuple[str, str]]()
        if self.recording is not None:
            recording.add(("recording", self.recording))
        return frozenset({("probe", self.probe), *recording})


@dataclass(frozen=True, kw_only=True, slots=True)
class RotateSpec:
    """Make a dictionary that reads rotated activations, for a floor."""

    dictionary: str
    """Id of the dictionary to make."""
    source: str
    """Id of the dictionary that is rotated."""
    seed: int = 0
    """Seed of the rotation."""

    def __post_init__(self) -> None:
        _check_target("dictionary", self.dictionary)
        if not 0 <= self.seed < 1 << 63:
            raise InvalidInput(f"seed {self.seed} must be in [0, 2**63)")

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Make a spec from a parsed JSON object.

        Raises:
            InvalidInput: a field is missing, of the wrong type or out of range.
            InvalidName: the dictionary's name is not an id of lower-case letters, digits and
                hyphens.
        """
        return cls(
            dictionary=_field("rotate", values, "dictionary", str),
            source=_field("rotate", values, "source", str),
            seed=_field("rotate", values, "seed", int),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON."""
        return {"dictionary": self.dictionary, "source": self.source, "seed": self.seed}

    @property
    def target(self) -> str:
        """Id of the dictionary."""
        return self.dictionary

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """The dictionary that is rotated."""
        return frozenset({("dictionary", self.source)})


def started_from(config: Mapping[str, object]) -> str | None:
    """Return the id of the dictionary whose decoder a run starts from; None where it is none.

    Args:
        config: settings of a training, as of a :class:`TrainSpec`.
    """
    init = config.get("init")
    if not isinstance(init, Mapping):
        return None
    found = cast("Mapping[str, object]", init)
    name = found.get("dictionary")
    return name if found.get("directions") == "given" and isinstance(name, str) and name else None


def grid_name(value: object) -> GridName | None:
    """Return the name of a grid (tokens or words); None for None and for an empty text.

    Raises:
        InvalidInput: there is no such grid.
    """
    match value:
        case None | "":
            return None
        case "tokens":
            return "tokens"
        case "word_ends":
            return "word_ends"
        case other:
            raise InvalidInput(f"grid is {other!r}, wanted 'tokens', 'word_ends' or none")


def _check_target(what: str, name: str) -> None:
    """Raise InvalidName for a name that the thing a job makes cannot have."""
    try:
        check_id(name)
    except InvalidName as error:
        raise InvalidName(f"{what} {name!r} must match [a-z][a-z0-9-]{{0,62}}") from error


def _field(kind: str, values: Mapping[str, object], name: str, wanted: type[T]) -> T:
    """Return a field of a spec of some kind of job; InvalidInput where it is of another type."""
    value = values.get(name)
    if not isinstance(value, wanted):
        found = type(value).__name__ if name in values else "missing"
        raise InvalidInput(f"field {name!r} of a {kind} job is {found}, wanted {wanted.__name__}")
    return value


def _object(kind: str, values: Mapping[str, object], name: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", _field(kind, values, name, dict))


def _sources(values: Mapping[str, object]) -> tuple[SiteRef, ...]:
    """Return the sites that a train job reads; one of them may stand by itself."""
    if "sources" not in values:
        return (_source(values),)
    found = cast("list[object]", _field("train", values, "sources", list))
    if not found:
        raise InvalidInput("field 'sources' of a train job is empty, wanted at least one site")
    return tuple(_source(_object("train", {"sources": item}, "sources")) for item in found)


def _beside(values: Mapping[str, object]) -> tuple[BesideSpec, ...]:
    """Return the further dictionaries of a train job."""
    found = cast("list[object]", _field("train", {"beside": [], **values}, "beside", list))
    objects = [_object("train", {"beside": item}, "beside") for item in found]
    return tuple(
        BesideSpec(
            dictionary=_field("train", one, "dictionary", str),
            config=_object("train", one, "config"),
        )
        for one in objects
    )


def _source(values: Mapping[str, object]) -> SiteRef:
    recording = _field("train", values, "recording", str)
    return SiteRef(recording=recording, site=_field("train", values, "site", str))


def _texts(kind: str, values: Mapping[str, object], name: str) -> tuple[str, ...]:
    items = cast("list[object]", _field(kind, values, name, list))
    return tuple(_field(kind, {name: item}, name, str) for item in items)


def _number(kind: str, values: Mapping[str, object], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"field {name!r} of a {kind} job is {value!r}, wanted a number")
    return float(value)
