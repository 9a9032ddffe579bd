"""Signatures: a feature's activation profile over a probe, folded to m numbers.

A CountSketch (Charikar, Chen and Farach-Colton, 2002) sends segment t to bucket h(t) with sign
s(t), both hashed from the segment's key, so that every model, shard and machine folds alike. With
the mean μ and deviation σ = √Σ(a - μ)² of a feature,

    signature[b] = (Σ_{h(t)=b} s(t) a(t) - μ Σ_{h(t)=b} s(t)) / σ

and the dot product of two signatures estimates the Pearson correlation of the features: unbiased
over the hash, with a standard deviation of about 1/√m. The sums are linear in the codes, so shards
of a probe are sketched apart and added.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.short_repr import short_repr
from isogloss.store import read_arrays, write_arrays
from isogloss.universality.codes.probed import ProbedDictionary, feature_blocks
from isogloss.universality.correlation.moments import Moments, shape_of
from isogloss.universality.formats import attribute, check_kind, column
from isogloss.universality.probe.hashing import splitmix64
from isogloss.universality.probe.probe import Probe

_VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketch:
    """Sums of a dictionary's codes by bucket, before they are centred; sketches add."""

    seed: int
    """Seed of the hash that sends segments to buckets and signs."""

    sums: NDArray[np.float32]
    """Signed sum of each feature in each bucket, ``[features, m]``."""

    signs: NDArray[np.float64]
    """Sum of the signs in each bucket, ``[m]``."""

    moments: Moments
    """Sums of each feature over the same segments."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        wanted = (len(self.moments.total), len(self.signs))
        if self.sums.shape != wanted:
            raise ShapeError(f"sums {self.sums.shape} must be [features, m] = {wanted}")

    def merge(self, other: "Sketch") -> "Sketch":
        """Return the sketch of both shards; no segment may be in both.

        Args:
            other: the sketch of the other shard.

        Returns:
            The sums over both.

        Raises:
            InvalidInput: the sketches differ in size or seed.
        """
        if self.sums.shape != other.sums.shape or self.seed != other.seed:
            raise InvalidInput(
                f"sketches of shape {self.sums.shape}, seed {self.seed} and "
                f"{other.sums.shape}, seed {other.seed} cannot be added; sketch both alike"
            )
        mine, theirs = self.moments, other.moments
        return Sketch(
            seed=self.seed,
            sums=self.sums + other.sums,
            signs=self.signs + other.signs,
            moments=Moments(
                rows=mine.rows + theirs.rows,
                total=mine.total + theirs.total,
                squares=mine.squares + theirs.squares,
                fires=mine.fires + theirs.fires,
            ),
        )

    def signatures(self) -> NDArray[np.float32]:
        """Centre and standardise: ``[features, m]``; zero where a feature never varies."""
        rows = max(self.moments.rows, 1)
        deviation = self.moments.spread / np.sqrt(rows)
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        mean = (self.moments.total / rows).astype(np.float32)
        # float32 throughout: a [features, m] float64 copy would be twice the sketch itself.
        folded = mean[:, None] * self.signs.astype(np.float32)[None, :]
        np.subtract(self.sums, folded, out=folded)
        folded *= scale.astype(np.float32)[:, None]
        return folded

    def save(self, directory: Path) -> None:
        """Write the sketch to a directory, whole or not at all."""
        arrays = {
            "sums": self.sums,
            "signs": self.signs,
            "total": self.moments.total,
            "squares": self.moments.squares,
            "fires": self.moments.fires,
        }
        attributes = {"kind": "sketch", "version": _VERSION, "seed": self.seed}
        write_arrays(directory, arrays, {**attributes, "rows": self.moments.rows})

    @staticmethod
    def load(directory: Path) -> "Sketch":
        """Read a sketch from the directory to which :meth:`save` wrote it.

        Args:
            directory: the directory.

        Returns:
            The sketch.

        Raises:
            NotFound: the directory holds no sketch.
            UnsupportedVersion: a later release wrote it.
            CorruptData: a file does not match its checksum.
        """
        arrays, attributes = read_arrays(directory)
        check_kind(attributes, directory, "sketch", _VERSION)
        return Sketch(
            seed=attribute(attributes, "seed", int),
            sums=column(arrays, "sums", np.float32),
            signs=column(arrays, "signs", np.float64),
            moments=Moments(
                rows=attribute(attributes, "rows", int),
                total=column(arrays, "total", np.float64),
                squares=column(arrays, "squares", np.float64),
                fires=column(arrays, "fires", np.int64),
            ),
        )


def fold(
    keys: NDArray[np.uint64], m: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Hash segments to buckets in ``[0, m)`` and signs ±1, each ``[segments]``.

    The bucket is a multiple of the upper 32 bits, so with m halved two neighbours share a bucket.
    """
    salt = splitmix64(np.array([seed], np.uint64))
    hashed = splitmix64(keys ^ salt)
    bucket = ((hashed >> np.uint64(32)) * np.uint64(m)) >> np.uint64(32)
    sign = (hashed & np.uint64(1)).astype(np.float64) * 2 - 1
    return bucket.astype(np.int64), sign


def sketch(
    probed: ProbedDictionary, keys: NDArray[np.uint64], *, m: int = 512, seed: int = 0
) -> Sketch:
    """Fold the codes of a dictionary to m sums a feature, block by block of features.

    Args:
        probed: the dictionary on the segments (of a probe, or of a shard of one).
        keys: name of each segment, ``[segments]``.
        m: numbers per feature.
        seed: seed of the hash; sketches that are compared must have the same.

    Returns:
        The sums, not yet centred: ``Sketch.signatures`` centres them.

    Raises:
        InvalidInput: m is not positive.
        ShapeError: there is not one key a segment.
    """
    if m < 1:
        raise InvalidInput(f"m is {m}, wanted at least 1")
    if len(keys) != probed.codes.rows:
        raise ShapeError(
            f"keys {keys.shape} must have one entry for each of the {probed.codes.rows} segments "
            f"that {probed.id!r} was encoded on; take both from one probe"
        )
    bucket, sign = fold(keys, m, seed)
    sums = np.empty((probed.features, m), np.float32)
    for start, block in feature_blocks(probed.codes):
        count, _ = shape_of(block)
        place = np.repeat(np.arange(count) * m, np.diff(block.indptr)) + bucket[block.indices]
        weight = block.data * sign[block.indices]
        folded = np.bincount(place, weight, minlength=count * m)
        sums[start : start + count] = folded.reshape(count, m)
    here = probed.present
    signs = np.asarray(np.bincount(bucket[here], sign[here], minlength=m), np.float64)
    return Sketch(seed=seed, sums=sums, signs=signs, moments=probed.moments)


def signatures(
    probed: ProbedDictionary, probe: Probe, *, m: int = 512, seed: int = 0
) -> NDArray[np.float32]:
    """Return the signatures of a dictionary on a probe, ``[features, m]``."""
    return sketch(probed, probe.keys, m=m, seed=seed).signatures()
