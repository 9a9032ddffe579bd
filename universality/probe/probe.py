"""Probes: the documents, and the segments in them, on which features are compared.

A probe holds documents that every recording has and none trained on. Its segments have names
(``keys``) that depend on the document and the place alone, so what is computed for one dictionary
stays valid when another model joins.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import (
    CorruptData,
    EmptyProbe,
    InvalidInput,
)
from isogloss.short_repr import short_repr
from isogloss.store import read_arrays, write_arrays
from isogloss.universality.formats import attribute, check_kind, column
from isogloss.universality.probe.grid import (
    Grid,
)

_VERSION = 1

_ARRAYS = (
    "documents",
    "segment_document",
    "segment_source",
    "segment_span",
    "stratum_token",
    "stratum_position",
    "half",
    "keys",
)


@dataclass(frozen=True, kw_only=True)
class ProbeOrigin:
    """How a probe was made: its recordings and settings."""

    holdout: float
    """Documents with ``split_position`` below this were held out of training."""

    seed: int
    """Seed of the split into halves."""

    segmenter: str
    """Name and version of the library that found the words; ``"tokens"`` where segments are tokens.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Segments of held-out documents, in order of document and place."""

    id: str
    """Name of the probe in the store."""

    uid: str
    """Directory of the probe in the store; by default the start of :attr:`digest`."""

    recordings: tuple[tuple[str, str, str], ...]
    """Id, uid and revision id of each recording it was built from."""

    grid: Grid
    """``tokens``: each token is a segment (all models have one tokenizer); ``word_ends``: each word
    is.
    """

    origin: ProbeOrigin
    """How the probe was made."""

    documents: NDArray[np.uint64]
    """Ids of the documents, ascending, ``[documents]``."""

    segment_document: NDArray[np.int32]
    """Index into ``documents``, ascending, ``[segments]``."""

    segment_source: NDArray[np.int32]
    """The source of each segment, numbered from 0, ``[segments]``. A source is a group of
    documents, such as those of one book; sources are independent of one another.
    """

    segment_span: NDArray[np.uint32]
    """Code points ``[start, end)``; on the token grid the position twice, ``[segments, 2]``."""

    stratum_token: NDArray[np.int64]
    """Hash of the token id, or of the word's text, ``[segments]``; see :attr:`surface`."""

    stratum_position: NDArray[np.int32]
    """Index of the segment within its document, ``[segments]``."""

    half: NDArray[np.int8]
    """0: rows that choose pairs, 1: rows that report on them; one half per group of documents."""

    keys: NDArray[np.uint64]
    """Name of each segment: a hash of its document's key and its end, ``[segments]``."""

    stratum_folded: NDArray[np.int64] | None = None
    """Hash of the word's case-folded text, ``[segments]``; None where tokens have ids, and in
    probes of earlier versions."""

    surface: Literal["exact", "folded"] = "exact"
    """What ``stratum_token`` is a hash of: the ``exact`` text or id, or, in probes of earlier
    versions, text that was ``folded``: "The" and "the" are one."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not self.segments:
            raise EmptyProbe("the probe holds 0 segments; at least one is needed")
        for name in _ARRAYS[1:]:
            found = len(getattr(self, name))
            if found != self.segments:
                raise InvalidInput(
                    f"{name} has {found} rows, keys {self.segments}; they must agree"
                )
        if self.stratum_folded is not None and len(self.stratum_folded) != self.segments:
            found = len(self.stratum_folded)
            raise InvalidInput(f"stratum_folded has {found} rows, keys {self.segments}; must agree")
        odd = self.half[(self.half != 0) & (self.half != 1)]
        if odd.size:
            raise InvalidInput(
                f"half holds {odd[0]} in {odd.size} of {self.segments} rows; each must be 0 "
                "(chooses pairs) or 1 (reports on them)"
            )

    @property
    def segments(self) -> int:
        """Number of segments, N."""
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything on which results depend: segments, halves and strata."""
        hashed = hashlib.sha256(f"{self.grid} {self.origin.segmenter}".encode())
        for name in _ARRAYS:
            hashed.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return hashed.hexdigest()

    def token_values(self, surface: str) -> NDArray[np.int64]:
        """Return what parts tokens from one another, ``[segments]``.

        Args:
            surface: ``exact`` or ``folded``; ids of tokens, and probes that know one of the two
                only, give what they have.
        """
        if surface == "folded" and self.stratum_folded is not None:
            return self.stratum_folded
        return self.stratum_token

    @cached_property
    def token_labels(self) -> NDArray[np.int64]:
        """``stratum_token`` numbered from 0, ``[segments]``."""
        return np.unique(self.stratum_token, return_inverse=True)[1].astype(np.int64)

    def save(self, directory: Path) -> None:
        """Write the probe to a directory, whole or not at all.

        Args:
            directory: where to; replaced if it is there.

        Raises:
            StorageError: the storage refused.
        """
        attributes: dict[str, object] = {
            "kind": "probe",
            "version": _VERSION,
            "id": self.id,
            "uid": self.uid,
            "recordings": [list(names) for names in self.recordings],
            "grid": self.grid,
            "origin": asdict(self.origin),
            "digest": self.digest,
            "surface": self.surface,
        }
        arrays: dict[str, NDArray[np.generic]] = {name: getattr(self, name) for name in _ARRAYS}
        if self.stratum_folded is not None:
            arrays["stratum_folded"] = self.stratum_folded
        write_arrays(directory, arrays, attributes)

    @staticmethod
    def load(directory: Path) -> "Probe":
        """Read a probe from the directory to which :meth:`save` wrote it.

        Args:
            directory: the directory.

        Returns:
            The probe.

        Raises:
            NotFound: the directory holds no probe.
            UnsupportedVersion: a later release wrote it.
            CorruptData: a file does not match its checksum.
        """
        arrays, attributes = read_arrays(directory)
        check_kind(attributes, directory, "probe", _VERSION)
        origin = attributes.get("origin")
        recordings = attributes.get("recordings")
        grid = attribute(attributes, "grid", str)
        if not isinstance(origin, dict) or not isinstance(recordings, list):
            raise CorruptData(f"{directory}: origin is {origin!r} and recordings {recordings!r}")
        # versions that wrote no surface folded the case of words
        surface = attributes.get("surface", "folded" if grid == "word_ends" else "exact")
        folded = "stratum_folded"
        probe = Probe(
            id=attribute(attributes, "id", str),
            uid=attribute(attributes, "uid", str),
            recordings=tuple((str(name), str(uid), str(rev)) for name, uid, rev in recordings),
            grid="tokens" if grid == "tokens" else "word_ends",
            origin=ProbeOrigin(
                holdout=attribute(origin, "holdout", float),
                seed=attribute(origin, "seed", int),
                segmenter=attribute(origin, "segmenter", str),
            ),
            documents=column(arrays, "documents", np.uint64),
            segment_document=column(arrays, "segment_document", np.int32),
            segment_source=column(arrays, "segment_source", np.int32),
            segment_span=column(arrays, "segment_span", np.uint32),
            stratum_token=column(arrays, "stratum_token", np.int64),
            stratum_position=column(arrays, "stratum_position", np.int32),
            half=column(arrays, "half", np.int8),
            keys=column(arrays, "keys", np.uint64),
            stratum_folded=column(arrays, folded, np.int64) if folded in arrays else None,
            surface="folded" if surface == "folded" else "exact",
        )
        written = attribute(attributes, "digest", str)
        if probe.digest != written:
            raise CorruptData(
                f"{directory}: segments hash to {probe.digest[:16]}, {written[:16]} was written; "
                "build the probe again"
            )
        return probe
