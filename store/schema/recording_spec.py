"""The description of a recording, known before its first row: sites, model, corpus."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, InvalidName, ShapeError, UnknownSite
from isogloss.short_repr import short_repr
from isogloss.site_names import is_same_site
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    check_version,
    get_count,
    get_items,
    get_mapping,
    get_text,
    is_mapping,
)
from isogloss.store.schema.names import check_id

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


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSpec:
    """One hook point of a model, recorded as ``[rows, width]``."""

    name: str
    """Free text, such as ``encoder.layer.3``; never part of a path."""

    width: int
    """Numbers in a row, in ``[1, 2**20]``."""

    dtype: Dtype = "bfloat16"
    """Number format in which activations are stored."""

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
    """Name and revision of the model that was recorded."""

    name: str
    """Hub id, path or any other name."""

    revision: str = ""
    """Commit or version of the weights; empty when unknown."""

    ancestry: Mapping[str, object] = field(default_factory=dict[str, object])
    """Fingerprint by which related models are recognised: JSON, opaque to the store."""

    __repr__ = short_repr

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
    """The description of a recording, known before its first row."""

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

    __repr__ = short_repr

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
        """Return the index of a site in ``sites``.

        Args:
            name: the site's name, or the same path with or without the prefix that a model has
                before its base model's: ``layers.3`` for ``model.layers.3`` and the reverse.

        Returns:
            The index.

        Raises:
            UnknownSite: the recording has no such site, or several that are meant alike; the
                message lists the nearest names.
        """
        names = [site.name for site in self.sites]
        if name in names:
            return names.index(name)
        alike = [index for index, known in enumerate(names) if is_same_site(known, name)]
        if len(alike) == 1:
            return alike[0]
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
        raise UnknownSite(
            f"recording {self.recording!r} has no site {name!r}; nearest: {', '.join(near)}"
        )

    def site_name(self, name: str) -> str:
        """Return the name under which the recording has a site.

        Args:
            name: the site as a caller names it; see :meth:`site_index`.

        Raises:
            UnknownSite: the recording has no such site; the message lists the nearest names.
        """
        return self.sites[self.site_index(name)].name

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

        Args:
            document: what :meth:`to_dict` returned.

        Returns:
            The specification.

        Raises:
            UnsupportedVersion: the document's schema version is not one that this release reads.
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
