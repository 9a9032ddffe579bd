"""Dictionaries on a probe with known answers, for tests and benchmarks: no model is needed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.store import CodesFile, CodesWriter
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.correlation.moments import moments, shape_of
from isogloss.universality.probe.probe import Probe, ProbeOrigin


@dataclass(frozen=True, kw_only=True)
class ProbeShape:
    """Size of a synthetic probe."""

    documents: int = 80
    """How many documents; the first half of them chooses pairs, the rest reports."""
    length: int = 50
    """Segments of each document."""
    tokens: int = 40
    """Different tokens, drawn by a power law."""

    @property
    def segments(self) -> int:
        """Segments of the whole probe."""
        return self.documents * self.length


def synthetic_probe(shape: ProbeShape, *, seed: int = 0) -> Probe:
    """Return a probe of random tokens on the token grid."""
    generator = np.random.default_rng(seed)
    popularity = 1.0 / np.arange(1, shape.tokens + 1)
    token = generator.choice(shape.tokens, shape.segments, p=popularity / popularity.sum())
    document = np.repeat(np.arange(shape.documents, dtype=np.int32), shape.length)
    position = np.tile(np.arange(shape.length, dtype=np.int32), shape.documents)
    return Probe(
        id="synthetic",
        uid="synthetic",
        recordings=(),
        grid="tokens",
        origin=ProbeOrigin(holdout=1.0, seed=seed, segmenter="tokens"),
        documents=np.arange(shape.documents, dtype=np.uint64),
        segment_document=document,
        segment_source=document,
        segment_span=np.stack([position, position], axis=1).astype(np.uint32),
        stratum_token=token.astype(np.int64),
        stratum_position=position,
        half=(document >= shape.documents // 2).astype(np.int8),
        keys=generator.integers(0, 2**63, shape.segments).astype(np.uint64),
    )


def random_codes(
    generator: np.random.Generator, rows: int, features: int, active: int
) -> sp.csr_array:
    """Return codes in which ``active`` draws from a power law over features fire in each row.

    Args:
        generator: the random generator.
        rows: how many rows.
        features: how many features.
        active: draws in each row.

    Returns:
        ``[rows, features]``, float64 holding float32 values above 0.3; a feature drawn twice in a
        row fires once, so a row has at most ``active`` of them.
    """
    popularity = (np.arange(features) + 30.0) ** -0.8
    edges = np.cumsum(popularity / popularity.sum())
    drawn = np.searchsorted(edges, generator.random((rows, active))).clip(0, features - 1)
    indices = generator.permutation(features)[drawn].ravel()
    row = np.repeat(np.arange(rows), active)
    cell = np.unique(row * features + indices)
    values = (np.abs(generator.standard_normal(cell.size)) + 0.3).astype(np.float32)
    return sp.csr_array(
        (values.astype(np.float64), (cell // features, cell % features)), shape=(rows, features)
    )


def drop_firings(generator: np.random.Generator, codes: sp.csr_array, share: float) -> sp.csr_array:
    """Return codes without a random share of their entries."""
    kept = codes.copy()
    kept.data = np.where(generator.random(kept.nnz) < share, 0.0, kept.data)
    kept.eliminate_zeros()
    return kept


def write_probed(
    directory: Path,
    dictionary: str,
    codes: sp.csr_array,
    present: NDArray[np.bool_] | None = None,
) -> ProbedDictionary:
    """Write codes as a dictionary's codes over a probe and read them back.

    Args:
        directory: a directory that does not exist yet.
        dictionary: id of the dictionary.
        codes: ``[segments, features]``.
        present: segments that the recording has; None: all. Codes of the others are dropped.

    Returns:
        The dictionary on the probe, read back.
    """
    rows, features = shape_of(codes)
    if present is None:
        present = np.ones(rows, dtype=bool)
    kept = codes.copy()
    kept.data = np.where(np.repeat(present, np.diff(codes.indptr)), kept.data, 0.0)
    kept.eliminate_zeros()
    kept.sort_indices()
    writer = CodesWriter(directory, features)
    writer.append(
        kept.indptr.astype(np.int64), kept.indices.astype(np.int32), kept.data.astype(np.float32)
    )
    writer.finish({})
    return ProbedDictionary(
        id=dictionary,
        codes=CodesFile(directory),
        present=present,
        moments=moments(kept[present].T.tocsr()),
    )
