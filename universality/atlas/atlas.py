"""The atlas: the signatures of all dictionaries on a probe, one faiss index a dictionary.

Flat indices with a bfloat16 scalar quantiser: a single query is bound by memory, so half the bytes
are half the time, and the sketch's own error (1/√m) is ten times that of the rounding. A search
takes its candidates per target dictionary (a global list would let one dictionary crowd out
another) and so reads the signatures of the targets only, and adding a dictionary touches no other.

On disk an atlas is an index of faiss a dictionary and the feature numbers. It is opened by mapping
it into memory: nothing is read before it is searched, and what is mapped stays when a new atlas
takes its place. How is told in ``docs/design/028-exact-neighbours.md``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from isogloss.errors import (
    AlreadyExists,
    CorruptData,
    DeadFeature,
    InvalidInput,
    NotFound,
    ShapeError,
)
from isogloss.short_repr import short_repr
from isogloss.store import MappedArray, map_arrays, read_arrays, write_mappable
from isogloss.universality.atlas.parts import AtlasPart
from isogloss.universality.formats import attribute, check_kind, column

_VERSION = 2
_ROUNDED = "rounded"
"""Array of all signatures in version 1, which had no index a dictionary."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Features of one target dictionary whose signatures are nearest, best first."""

    feature: NDArray[np.int32]
    """``[queries, count]``; -1 where the dictionary has fewer."""

    estimate: NDArray[np.float32]
    """Estimated correlation, ``[queries, count]``; -inf where there is no feature."""

    __repr__ = short_repr


class Atlas:
    """Nearest features by signature, among any of the dictionaries of a probe.

    It starts empty: ``add`` takes the dictionaries, ``build`` makes one of several.

    Args:
        m: numbers per signature.
        min_fires: a feature that fires on fewer segments is left out: its signature is noise.
        probe_uid: the probe that the signatures are taken on.

    Raises:
        InvalidInput: m is not positive.
    """

    def __init__(self, m: int, *, min_fires: int = 20, probe_uid: str = "") -> None:
        if m < 1:
            raise InvalidInput(f"m is {m}, wanted at least 1")
        self.m = m
        self.min_fires = min_fires
        self.probe_uid = probe_uid
        self._parts: dict[str, AtlasPart] = {}

    @property
    def dictionaries(self) -> tuple[str, ...]:
        """Ids of the dictionaries in it."""
        return tuple(self._parts)

    def __len__(self) -> int:
        """Return how many features the atlas holds."""
        return sum(len(part.feature) for part in self._parts.values())

    @classmethod
    def build(
        cls,
        signatures: Mapping[str, NDArray[np.float32]],
        fires: Mapping[str, NDArray[np.int64]],
        *,
        min_fires: int = 20,
        probe_uid: str = "",
    ) -> "Atlas":
        """Index the signatures of dictionaries.

        Args:
            signatures: of each dictionary by id, ``[features, m]`` with one m and one seed.
            fires: segments on which each feature fires, by id, ``[features]``.
            min_fires: a feature that fires on fewer segments is left out: its signature is noise.
            probe_uid: the probe that the signatures were taken on.

        Returns:
            The atlas of these dictionaries.

        Raises:
            InvalidInput: no dictionary.
            ShapeError: arrays do not fit each other.
        """
        if not signatures:
            raise InvalidInput("0 dictionaries; an atlas needs the signatures of at least one")
        if set(signatures) != set(fires):
            raise InvalidInput(
                f"signatures of {sorted(signatures)} and fires of {sorted(fires)} must be of the "
                "same dictionaries"
            )
        m = next(iter(signatures.values())).shape[-1]
        atlas = cls(m, min_fires=min_fires, probe_uid=probe_uid)
        for name, rows in signatures.items():
            atlas.add(name, rows, fires[name])
        return atlas

    def check(self) -> None:
        """Read all signatures and compare them with their checksums.

        Raises:
            CorruptData: some are not what was written.
        """
        for part in self._parts.values():
            _ = part.index

    def keep(self, dictionaries: Collection[str]) -> None:
        """Forget all dictionaries but these; what the others answer stays as it is.

        Args:
            dictionaries: ids; some of which the atlas may lack.
        """
        self._parts = {name: part for name, part in self._parts.items() if name in dictionaries}

    def add(
        self, dictionary: str, signatures: NDArray[np.float32], fires: NDArray[np.int64]
    ) -> None:
        """Index the signatures of one more dictionary.

        Args:
            dictionary: its id.
            signatures: ``[features, m]``, sketched with the seed of the others.
            fires: segments on which each feature fires, ``[features]``.

        Raises:
            AlreadyExists: the atlas has a dictionary of that id.
            ShapeError: the arrays do not fit the atlas or each other.
            InvalidInput: a signature is not finite.
        """
        if dictionary in self._parts:
            raise AlreadyExists(f"dictionary {dictionary!r} is in the atlas; build it anew instead")
        if signatures.shape != (len(fires), self.m):
            raise ShapeError(
                f"signatures {signatures.shape} of {dictionary!r} must be "
                f"[features, m] = {(len(fires), self.m)}; sketch all dictionaries with one m"
            )
        odd = np.flatnonzero(~np.isfinite(signatures).all(axis=1))
        if odd.size:
            raise InvalidInput(
                f"signatures of {odd.size} features of {dictionary!r} are not finite, such as that "
                f"of feature {odd[0]}; encode the dictionary again"
            )
        enough = (fires >= self.min_fires) & signatures.any(axis=1)
        live = np.flatnonzero(enough).astype(np.int32)
        self._parts[dictionary] = AtlasPart.of(signatures[live], live, len(fires))

    def vectors(self, dictionary: str, features: Sequence[int]) -> NDArray[np.float32]:
        """Return the signatures of features, as the index holds them, ``[features, m]``.

        Args:
            dictionary: id of the dictionary.
            features: numbers of its features.

        Returns:
            ``[features, m]``, float32 holding bfloat16 values, in the order asked.

        Raises:
            NotFound: the atlas has no such dictionary.
            InvalidInput: the dictionary has no such feature.
            DeadFeature: the feature fires too rarely, or never varies, and is not in the atlas.
        """
        found = self._part(dictionary)
        wanted = np.asarray(features, np.int64)
        outside = wanted[(wanted < 0) | (wanted >= found.features)]
        if len(outside):
            raise InvalidInput(
                f"feature {outside[0]} of {dictionary!r}: it has features 0 to {found.features - 1}"
            )
        missing = wanted[~np.isin(wanted, found.feature)]
        if len(missing):
            raise DeadFeature(
                f"feature {missing[0]} of {dictionary!r} fires on fewer than "
                f"{self.min_fires} segments of the probe, or never varies there; choose another, "
                "or a larger probe"
            )
        return found.index.reconstruct_batch(np.searchsorted(found.feature, wanted))

    def is_indexed(self, dictionary: str) -> NDArray[np.bool_]:
        """Return which features of a dictionary are in the atlas.

        Args:
            dictionary: its id.

        Returns:
            ``[features]``.

        Raises:
            NotFound: the atlas has no such dictionary.
        """
        return self._part(dictionary).is_indexed

    def search(
        self, vectors: NDArray[np.float32], among: Sequence[str], *, count: int = 100
    ) -> dict[str, Candidates]:
        """Find the nearest features of each target dictionary.

        Args:
            vectors: signatures, ``[queries, m]``.
            among: ids of the target dictionaries.
            count: candidates per target.

        Returns:
            The candidates of each target, by its id, in the order of ``among``.

        Raises:
            NotFound: the atlas has no such dictionary.
            ShapeError: vectors are not ``[queries, m]``.
            InvalidInput: ``count`` is not positive, or a vector not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.m:
            raise ShapeError(f"vectors {vectors.shape} must be [queries, {self.m}]")
        if count < 1:
            raise InvalidInput(f"count is {count}, wanted at least 1")
        odd = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if odd.size:
            raise InvalidInput(f"vector {odd[0]} of {len(vectors)} is not finite; sketch it again")
        found: dict[str, Candidates] = {}
        for name in among:
            feature, estimate = self._part(name).search(vectors, count)
            found[name] = Candidates(feature=feature, estimate=estimate)
        return found

    def _part(self, dictionary: str) -> AtlasPart:
        found = self._parts.get(dictionary)
        if found is None:
            raise NotFound(
                f"dictionary {dictionary!r} is not in the atlas, which has "
                f"{', '.join(self._parts)}; add it to the probe"
            )
        return found

    def save(self, directory: Path) -> None:
        """Write the atlas to a directory, whole or not at all."""
        ranges: dict[str, list[int]] = {}
        start = 0
        for name, part in self._parts.items():
            ranges[name] = [start, start + len(part.feature), part.features]
            start += len(part.feature)
        attributes: dict[str, object] = {
            "kind": "atlas",
            "version": _VERSION,
            "min_fires": self.min_fires,
            "probe": self.probe_uid,
            "m": self.m,
            "ranges": ranges,
        }
        parts = list(self._parts.values())
        feature = np.concatenate([np.empty(0, np.int32), *(part.feature for part in parts)])
        indices = ((_index_name(at), part.to_bytes()) for at, part in enumerate(parts))
        write_mappable(directory, chain([("feature", feature)], indices), attributes)

    @classmethod
    def load(cls, directory: Path) -> "Atlas":
        """Open an atlas in the directory to which :meth:`save` wrote it, by mapping its files.

        It answers as long as it is kept, whatever becomes of the directory.

        Args:
            directory: the directory.

        Returns:
            An atlas that answers as the saved one did. The signatures of a dictionary are compared
            with their checksum when they are first used (CorruptData where they differ).

        Raises:
            NotFound: the directory holds no atlas.
            UnsupportedVersion: a later release wrote it.
            CorruptData: what is read now is not what was written.
        """
        mapped, attributes = map_arrays(directory)
        is_first = attributes.get("version") == 1
        check_kind(attributes, directory, "atlas", 1 if is_first else _VERSION)
        arrays = read_arrays(directory)[0] if is_first else _only(mapped, "feature")
        feature = np.array(column(arrays, "feature", np.int32))
        ranges = _read_ranges(attributes, directory)
        rounded = column(arrays, _ROUNDED, bfloat16) if is_first else None
        _check_ranges(
            ranges, [len(feature)] + ([] if rounded is None else [len(rounded)]), directory
        )
        atlas = cls(
            attribute(attributes, "m", int) if rounded is None else rounded.shape[1],
            min_fires=attribute(attributes, "min_fires", int),
            probe_uid=attribute(attributes, "probe", str),
        )
        for at, (name, (start, stop, features)) in enumerate(ranges.items()):
            own, index = feature[start:stop], mapped.get(_index_name(at))
            if rounded is not None:
                part = AtlasPart.of(rounded[start:stop], own, features)
            elif index is not None:
                part = AtlasPart.mapped(index, own, features, atlas.m)
            else:
                raise CorruptData(f"{directory} lacks the signatures of {name!r}: build it again")
            atlas._parts[name] = part
        return atlas


def _only(mapped: Mapping[str, MappedArray], name: str) -> dict[str, NDArray[np.generic]]:
    return {name: mapped[name].checked()} if name in mapped else {}


def _index_name(number: int) -> str:
    """Return the array that holds the index of a dictionary, by its place in the atlas."""
    return f"index.{number}"


def _check_ranges(
    ranges: Mapping[str, tuple[int, int, int]], lengths: Sequence[int], directory: Path
) -> None:
    """Raise CorruptData unless the ranges follow one another to the end of arrays of one length."""
    ends = [0, *(stop for _, stop, _ in ranges.values())]
    if any([*(start for start, _, _ in ranges.values()), length] != ends for length in lengths):
        raise CorruptData(
            f"{directory}: arrays of {list(lengths)} features and ranges of other lengths; build "
            "the atlas again"
        )


def _read_ranges(
    attributes: Mapping[str, object], directory: Path
) -> dict[str, tuple[int, int, int]]:
    """Return first and last position of each dictionary, and how many features it has."""
    written = attributes.get("ranges")
    ranges: dict[str, tuple[int, int, int]] = {}
    for name, bounds in (written if isinstance(written, dict) else {}).items():
        if not isinstance(bounds, list) or len(bounds) != 3:
            raise CorruptData(
                f"{directory}: ranges of {name!r} are {bounds!r}; build the atlas again"
            )
        start, stop, features = (int(bound) for bound in bounds)
        ranges[str(name)] = (start, stop, features)
    return ranges
