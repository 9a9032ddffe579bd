"""A dictionary seen on a probe: its codes, which segments it has, and the sums of each feature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import DeadFeature, InvalidInput, NotFound
from isogloss.short_repr import short_repr
from isogloss.store import CodesFile, Csr, read_arrays, write_arrays
from isogloss.universality.correlation.moments import Moments, codes_matrix, moments
from isogloss.universality.correlation.one_to_all import take_lines, without_rows
from isogloss.universality.formats import check_kind, column

_BLOCK_FEATURES = 1024
_RESIDENT_ENTRIES = 16 << 20
_FEATURES_A_TIME = 4096
_KEPT_MOMENTS = 8
"""Sets of shared segments of which sums are kept: as many as there are other recordings."""
_SUMS = "sums"
_VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbedDictionary:
    """The codes of one dictionary over the segments of one probe."""

    id: str
    """Name of the dictionary."""

    codes: CodesFile
    """Its codes over the segments; a missing segment is an empty row."""

    present: NDArray[np.bool_]
    """Bool ``[segments]``: whether the dictionary's recording has a row for the segment."""

    moments: Moments
    """Sums of each feature over the present segments."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.present.shape != (self.codes.rows,):
            raise InvalidInput(
                f"present {self.present.shape} must have one entry for each of the "
                f"{self.codes.rows} segments that {self.id!r} was encoded on"
            )

    @property
    def features(self) -> int:
        """How many features the dictionary has."""
        return self.codes.features

    def check_feature(self, feature: int, min_fires: int = 1) -> None:
        """Raise an error when a feature cannot be compared with others on the probe.

        Args:
            feature: number of the feature.
            min_fires: on how many segments of the probe (tokens or words, see :class:`Probe`) it
                must fire at least.

        Raises:
            InvalidInput: the dictionary has no such feature.
            DeadFeature: the feature fires on fewer than ``min_fires`` segments.
        """
        if not 0 <= feature < self.features:
            raise InvalidInput(
                f"feature {feature} of {self.id!r}: it has features 0 to {self.features - 1}"
            )
        fires = int(self.moments.fires[feature])
        if fires < min_fires:
            raise DeadFeature(
                f"feature {feature} of {self.id!r} fires on {fires} of {self.moments.rows} "
                f"segments, at least {min_fires} are needed; choose another, or a larger probe"
            )

    @property
    def resident_bytes(self) -> int:
        """Bytes that the codes take in memory once a feature was asked for, in both orders."""
        return 16 * self.codes.entries if self.codes.entries <= _RESIDENT_ENTRIES else 0

    @cached_property
    def by_row(self) -> Csr | None:
        """All codes row-major, ``[segments, features]``; None where they are too many."""
        if self.codes.entries > _RESIDENT_ENTRIES:
            return None
        return _checked(self.codes.row_slice(0, self.codes.rows), self.codes.features)

    @cached_property
    def by_feature(self) -> Csr | None:
        """All codes feature-major, ``[features, segments]``; None where they are too many.

        A query reads some 200 features: 40 ms from the file, 1 ms from memory (N = 80,000, k = 32).
        """
        if self.codes.entries > _RESIDENT_ENTRIES:
            return None
        return _checked(self.codes.feature_slice(0, self.features), self.codes.rows)

    @cached_property
    def _restricted(self) -> dict[bytes, Moments]:
        return {}

    def peaks(self) -> NDArray[np.float32]:
        """Return the highest activation of each feature, ``[features]``; 0 where it never fires."""
        found = np.zeros(self.features, np.float32)
        for start in range(0, self.features, _FEATURES_A_TIME):
            part = self.codes.feature_slice(start, min(start + _FEATURES_A_TIME, self.features))
            of = start + np.repeat(np.arange(part.rows), np.diff(part.indptr))
            np.maximum.at(found, of, part.values)
        return found

    def moments_on(self, shared: NDArray[np.bool_]) -> Moments | None:
        """Return the sums of each feature over some of the present segments.

        Args:
            shared: which, ``[segments]``; none that is not present.

        Returns:
            The sums; None where codes are too many to be held in memory.
        """
        gone = np.flatnonzero(self.present & ~shared)
        if not len(gone):
            return self.moments
        if self.by_row is None:
            return None
        key = gone.tobytes()
        if key not in self._restricted:
            if len(self._restricted) >= _KEPT_MOMENTS:
                self._restricted.clear()
            self._restricted[key] = without_rows(self.moments, gone, self.by_row)
        return self._restricted[key]

    def features_matrix(self, features: Sequence[int] | NDArray[np.integer]) -> sp.csr_array:
        """Return chosen features: ``[chosen, segments]``, float64, in the order given.

        Codes of up to 16 million entries stay in memory from the first call on (8 bytes each).
        """
        chosen = np.asarray(features, np.int64)
        if self.by_feature is not None:
            found = take_lines(self.by_feature, chosen)
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(found.lengths)])
            shape = (len(chosen), self.codes.rows)
            return sp.csr_array((found.values.astype(np.float64), found.indices, ends), shape=shape)
        columns = [self.codes.feature_slice(n, n + 1) for n in chosen.tolist()]
        lengths = [len(found.indices) for found in columns]
        joined = Csr(
            indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            indices=np.concatenate([np.empty(0, np.int32), *(c.indices for c in columns)]),
            values=np.concatenate([np.empty(0, np.float32), *(c.values for c in columns)]),
        )
        return codes_matrix(joined, self.codes.rows)


def _checked(codes: Csr, columns: int) -> Csr:
    """Return codes without stored zeros, once they were found to be codes."""
    matrix = codes_matrix(codes, columns)
    return Csr(
        indptr=np.asarray(matrix.indptr, np.int64),
        indices=np.asarray(matrix.indices, np.int32),
        values=matrix.data.astype(np.float32),
    )


def feature_blocks(codes: CodesFile) -> Iterator[tuple[int, sp.csr_array]]:
    """Read codes feature-major in blocks: the first feature, and ``[features, segments]``."""
    for start in range(0, codes.features, _BLOCK_FEATURES):
        stop = min(start + _BLOCK_FEATURES, codes.features)
        yield start, codes_matrix(codes.feature_slice(start, stop), codes.rows)


def sum_features(codes: CodesFile, present: NDArray[np.bool_]) -> Moments:
    """Sum every feature over the present segments, in float64 and in order of the segments."""
    parts = [moments(block) for _, block in feature_blocks(codes)]
    return Moments(
        rows=int(np.count_nonzero(present)),
        total=np.concatenate([part.total for part in parts]),
        squares=np.concatenate([part.squares for part in parts]),
        fires=np.concatenate([part.fires for part in parts]),
    )


def write_sums(directory: Path, codes: CodesFile, present: NDArray[np.bool_]) -> None:
    """Write, beside the codes, which segments are present and the sums over them."""
    sums = sum_features(codes, present)
    arrays = {
        "present": present,
        "total": sums.total,
        "squares": sums.squares,
        "fires": sums.fires,
    }
    write_arrays(directory / _SUMS, arrays, {"kind": "sums", "version": _VERSION})


def load_probed(directory: Path, dictionary_id: str) -> ProbedDictionary:
    """Read what :func:`encode_probe` wrote.

    Args:
        directory: where the codes are.
        dictionary_id: name of the dictionary.

    Returns:
        The dictionary on the probe; its codes are read when they are asked for.

    Raises:
        NotFound: the directory holds no codes, or they were not finished.
        UnsupportedVersion: a later release wrote them.
        CorruptData: the bytes are not what was written.
    """
    arrays, attributes = read_arrays(directory / _SUMS)
    check_kind(attributes, directory, "sums", _VERSION)
    present = column(arrays, "present", np.bool_)
    return ProbedDictionary(
        id=dictionary_id,
        codes=CodesFile(directory),
        present=present,
        moments=Moments(
            rows=int(np.count_nonzero(present)),
            total=column(arrays, "total", np.float64),
            squares=column(arrays, "squares", np.float64),
            fires=column(arrays, "fires", np.int64),
        ),
    )


def has_sums(directory: Path) -> bool:
    """Return whether :func:`write_sums` finished in this directory."""
    try:
        read_arrays(directory / _SUMS)
    except NotFound:
        return False
    return True
