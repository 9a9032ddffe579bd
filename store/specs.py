"""What describes a recording: its sites, its model, its corpus; and the revision that pins it."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeGuard

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, InvalidName, ShapeError, UnknownSite, UnsupportedVersion

SCHEMA_VERSION = 1
"""Version of every JSON document and binary frame this release writes."""

Rows: TypeAlias = NDArray[np.generic]
"""Rows of a site: ``[rows, width]`` in bfloat16, float16 or float32."""

Dtype: TypeAlias = Literal["bfloat16", "float16", "float32"]

DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
}
"""The dtypes a site may have on disk, little endian."""

MAX_WIDTH = 1 << 20
MAX_SITES = 1024
_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_UID = re.compile(r"[0-9a-f]{16,64}")
_LANE = re.compile(r"[0-9]{8}\.[0-9a-f]{16}")


def check_id(name: str) -> str:
    """Return ``name`` when it is a resource id.

    Raises:
        InvalidName: it is not of the form ``[a-z][a-z0-9-]{0,62}``.
    """
    if not _ID.fullmatch(name):
        raise InvalidName(
            f"id {name!r} is not of the form [a-z][a-z0-9-]{{0,62}}: use lower-case letters, "
            "digits and hyphens, starting with a letter"
        )
    return name


def check_uid(uid: str) -> str:
    """Return ``uid`` when it is one that the catalog could have given.

    Raises:
        InvalidName: it is not 16 to 64 lower-case hexadecimal digits.
    """
    if not _UID.fullmatch(uid):
        raise InvalidName(
            f"uid {uid!r} is not 16 to 64 lower-case hexadecimal digits: use Catalog.new_uid()"
        )
    return uid


def check_lane_name(name: str) -> str:
    """Return ``name`` when it is one that a lane can have.

    Raises:
        InvalidName: it is not eight digits, a dot and 16 lower-case hexadecimal digits.
    """
    if not _LANE.fullmatch(name):
        raise InvalidName(
            f"lane {name!r} is not eight digits, a dot and 16 hexadecimal digits: take its name "
            "from the recording's lanes"
        )
    return name


def check_version(document: Mapping[str, object], what: str) -> None:
    """Refuse a JSON document of a schema version that this release does not read.

    Raises:
        UnsupportedVersion: ``schema_version`` is missing, or newer than this release.
    """
    found = document.get("schema_version")
    if found != SCHEMA_VERSION:
        raise UnsupportedVersion(
            f"{what} has schema version {found!r} and this release reads {SCHEMA_VERSION}: "
            "open it with the release of isogloss that wrote it"
        )


def is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a value read from JSON is an object."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a value read from JSON is an array."""
    return isinstance(value, list)


def get_text(document: Mapping[str, object], key: str) -> str:
    """Return a text field of a JSON document; InvalidInput when it is absent or no text."""
    value = document.get(key)
    if not isinstance(value, str):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted text")
    return value


def get_count(document: Mapping[str, object], key: str) -> int:
    """Return a field that counts something; InvalidInput when it is not an integer >= 0."""
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(f"field {key!r} is {value!r}, wanted an integer >= 0")
    return value


def get_mapping(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return an object field of a JSON document; InvalidInput when it is absent or none."""
    value = document.get(key)
    if not is_mapping(value):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted an object")
    return value


def get_items(document: Mapping[str, object], key: str) -> list[object]:
    """Return an array field of a JSON document; InvalidInput when it is absent or none."""
    value = document.get(key)
    if not is_list(value):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted an array")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSpec:
    """One hook point of a model, recorded as ``[rows, width]``."""

    name: str
    """Free text, such as ``encoder.layer.3``; never part of a path."""

    width: int
    """Numbers in a row, in ``[1, 2**20]``."""

    dtype: Dtype = "bfloat16"
    """How a number is kept on disk."""

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 1024:
            raise InvalidName(f"site name has {len(self.name)} characters, wanted 1 to 1024")
        if not 1 <= self.width <= MAX_WIDTH:
            raise ShapeError(f"site {self.name!r} has width {self.width}, wanted 1 to {MAX_WIDTH}")
        if self.dtype not in DTYPES:
            raise ShapeError(
                f"site {self.name!r} has dtype {self.dtype!r}, wanted one of {sorted(DTYPES)}"
            )

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The dtype of the site's arrays in memory."""
        return DTYPES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * self.numpy_dtype.itemsize

    def to_dict(self) -> dict[str, object]:
        """Return the site as a JSON object."""
        return {"name": self.name, "width": self.width, "dtype": self.dtype}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "SiteSpec":
        """Read a site from a JSON object."""
        dtype = get_text(document, "dtype")
        if dtype not in ("bfloat16", "float16", "float32"):
            raise ShapeError(f"site dtype is {dtype!r}, wanted one of {sorted(DTYPES)}")
        return cls(name=get_text(document, "name"), width=get_count(document, "width"), dtype=dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """Which model was recorded."""

    name: str
    """Hub id, path or any other name."""

    revision: str = ""
    """Commit or version of the weights; empty when unknown."""

    ancestry: Mapping[str, object] = field(default_factory=dict[str, object])
    """Fingerprint by which related models are recognised: JSON, opaque to the store."""

    def to_dict(self) -> dict[str, object]:
        """Return the model as a JSON object."""
        return {"name": self.name, "revision": self.revision, "ancestry": dict(self.ancestry)}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "ModelInfo":
        """Read a model from a JSON object."""
        return cls(
            name=get_text(document, "name"),
            revision=get_text(document, "revision"),
            ancestry=dict(get_mapping(document, "ancestry")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingSpec:
    """All that is known of a recording before its first row."""

    recording: str
    """Resource id, ``[a-z][a-z0-9-]{0,62}``."""

    model: ModelInfo
    """The model whose activations these are."""

    tokenizer: str
    """Name or hash of the tokenizer; equal strings mean equal token ids."""

    corpus: str
    """Name of the text that was read."""

    sites: tuple[SiteSpec, ...]
    """The hook points, at least one; names differ."""

    has_spans: bool
    """Whether each row says which code points of its document it covers."""

    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    """Free labels: who, when, with which code."""

    nonfinite: Literal["count", "reject"] = "count"
    """Rows with NaN or infinity: stored and counted at sealing, or refused at append."""

    def __post_init__(self) -> None:
        check_id(self.recording)
        if not 1 <= len(self.sites) <= MAX_SITES:
            raise InvalidInput(f"recording has {len(self.sites)} sites, wanted 1 to {MAX_SITES}")
        names = [site.name for site in self.sites]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidInput(f"sites {repeated} are named twice: give each site once")
        if self.nonfinite not in ("count", "reject"):
            raise InvalidInput(f"nonfinite is {self.nonfinite!r}, wanted 'count' or 'reject'")
        try:
            json.dumps(self.to_dict(), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"the recording's ancestry and provenance must be plain JSON: {error}"
            ) from error

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all sites."""
        return sum(site.row_bytes for site in self.sites)

    def site_index(self, name: str) -> int:
        """Return the place of a site among ``sites``.

        Raises:
            UnknownSite: the recording has no such site; the message lists the nearest names.
        """
        for index, site in enumerate(self.sites):
            if site.name == name:
                return index
        names = [site.name for site in self.sites]
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
        raise UnknownSite(
            f"recording {self.recording!r} has no site {name!r}; nearest: {', '.join(near)}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return the specification as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "recording": self.recording,
            "model": self.model.to_dict(),
            "tokenizer": self.tokenizer,
            "corpus": self.corpus,
            "sites": [site.to_dict() for site in self.sites],
            "has_spans": self.has_spans,
            "provenance": dict(self.provenance),
            "nonfinite": self.nonfinite,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "RecordingSpec":
        """Read a specification from a JSON object.

        Raises:
            UnsupportedVersion: its schema version is not one this release reads.
            InvalidInput: a field is missing or of the wrong kind.
        """
        check_version(document, "recording specification")
        sites = [item for item in get_items(document, "sites") if is_mapping(item)]
        if len(sites) != len(get_items(document, "sites")):
            raise InvalidInput("field 'sites' holds something that is no object")
        nonfinite = document.get("nonfinite", "count")
        return cls(
            recording=get_text(document, "recording"),
            model=ModelInfo.from_dict(get_mapping(document, "model")),
            tokenizer=get_text(document, "tokenizer"),
            corpus=get_text(document, "corpus"),
            sites=tuple(SiteSpec.from_dict(item) for item in sites),
            has_spans=document.get("has_spans") is True,
            provenance={
                name: get_text(get_mapping(document, "provenance"), name)
                for name in get_mapping(document, "provenance")
            },
            nonfinite="reject" if nonfinite == "reject" else "count",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """The committed rows of a recording at one moment: what a reader or a job is pinned to."""

    recording: str
    """Uid of the recording."""

    lanes: tuple[tuple[str, int], ...]
    """Name and committed rows of each lane that holds any, in the order rows are numbered."""

    def __post_init__(self) -> None:
        names = [name for name, _ in self.lanes]
        if len(set(names)) != len(names) or any(rows < 1 for _, rows in self.lanes):
            raise InvalidInput(
                f"revision lanes {self.lanes} must have different names and at least one row each"
            )

    @property
    def rows(self) -> int:
        """Rows over all lanes."""
        return sum(rows for _, rows in self.lanes)

    @property
    def id(self) -> str:
        """Short hash: equal for equal revisions, 16 hexadecimal digits."""
        canonical = json.dumps([self.recording, [list(lane) for lane in self.lanes]])
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, object]:
        """Return the revision as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "recording": self.recording,
            "lanes": [[name, rows] for name, rows in self.lanes],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "Revision":
        """Read a revision from a JSON object."""
        check_version(document, "revision")
        lanes: list[tuple[str, int]] = []
        for item in get_items(document, "lanes"):
            if not is_list(item) or len(item) != 2:
                raise InvalidInput(f"revision lane {item!r} is not [name, rows]")
            name, rows = item
            if not isinstance(name, str) or not isinstance(rows, int):
                raise InvalidInput(f"revision lane {item!r} is not [name, rows]")
            lanes.append((name, rows))
        return cls(recording=get_text(document, "recording"), lanes=tuple(lanes))
