"""The signatures of one dictionary in an atlas: in memory, or mapped from a file.

A part on disk is what ``faiss.write_index`` writes, as one array of bytes, so that faiss searches
it where it is mapped, without a copy. Its checksum is compared when the part is first used; only
then are its bytes given to faiss.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cached_property

import faiss
import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store import MappedArray

_ADD_ROWS = 65_536
_MANY_QUERIES = 8
if faiss.SIMDConfig.get_level() == faiss.SIMDLevel_AVX512_SPR:
    # there it rounds the vector that is searched for to bfloat16, too: estimates off by .0006, and
    # other ones than on other processors, for a tenth of the time at most
    faiss.SIMDConfig.set_level(faiss.SIMDLevel_AVX512)


class AtlasPart:
    """Signatures of the indexed features of one dictionary.

    Args:
        feature: number of each indexed feature, ascending.
        features: how many the dictionary has, indexed or not.
        open_index: returns the index, once it is asked for.
    """

    def __init__(
        self,
        feature: NDArray[np.int32],
        features: int,
        open_index: Callable[[], faiss.IndexScalarQuantizer],
    ) -> None:
        self.feature = feature
        self.features = features
        self._open_index = open_index  # kept: it holds the file that the index looks at

    @cached_property
    def index(self) -> faiss.IndexScalarQuantizer:
        """The signatures, in the order of ``feature``.

        Raises:
            CorruptData: the file does not hold what was written.
        """
        return self._open_index()

    @cached_property
    def is_indexed(self) -> NDArray[np.bool_]:
        """Which features of the dictionary are in the index, ``[features]``."""
        found = np.zeros(self.features, np.bool_)
        found[self.feature] = True
        return found

    @classmethod
    def of(
        cls, rows: NDArray[np.generic], feature: NDArray[np.int32], features: int
    ) -> "AtlasPart":
        """Index signatures ``[indexed, m]``, rounding them block by block."""
        index = new_index(rows.shape[1])
        for at in range(0, len(rows), _ADD_ROWS):
            index.add(np.ascontiguousarray(rows[at : at + _ADD_ROWS], np.float32))
        return cls(feature, features, lambda: index)

    @classmethod
    def mapped(
        cls, array: MappedArray, feature: NDArray[np.int32], features: int, m: int
    ) -> "AtlasPart":
        """Search signatures where :meth:`to_bytes` put them, ``m`` numbers each."""
        return cls(feature, features, lambda: _read(array, len(feature), m))

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the index as ``faiss.write_index`` writes it."""
        return faiss.serialize_index(self.index)

    def search(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return features and estimates, ``[queries, count]``; -1 and -inf where fewer."""
        feature = np.full((len(vectors), count), -1, np.int32)
        estimate = np.full((len(vectors), count), -np.inf, np.float32)
        taken = min(count, len(self.feature))
        if taken and len(vectors):
            with _threads(1 if len(vectors) < _MANY_QUERIES else faiss.omp_get_max_threads()):
                near, ids = self.index.search(np.ascontiguousarray(vectors), taken)
            known = ids >= 0  # of a vector that is not finite, faiss finds nothing
            feature[:, :taken] = np.where(known, self.feature[ids], -1)
            estimate[:, :taken] = np.where(known, near, -np.inf)
        return feature, estimate


def new_index(m: int) -> faiss.IndexScalarQuantizer:
    """Return an empty index of signatures of ``m`` numbers, which it rounds to bfloat16."""
    return faiss.IndexScalarQuantizer(m, faiss.ScalarQuantizer.QT_bf16, faiss.METRIC_INNER_PRODUCT)


def _read(array: MappedArray, rows: int, m: int) -> faiss.IndexScalarQuantizer:
    """Return the index that a mapped file holds; whoever keeps it keeps the array, too."""
    held = array.checked()
    # faiss's types lack it
    reader = faiss.ZeroCopyIOReader(  # pyright: ignore[reportAttributeAccessIssue]
        faiss.swig_ptr(held), held.size
    )
    try:
        found = faiss.read_index(reader, faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise CorruptData(f"an atlas holds no index of faiss: {error}") from error
    if not isinstance(found, faiss.IndexScalarQuantizer) or (found.d, found.ntotal) != (m, rows):
        raise CorruptData(
            f"an atlas holds a {type(found).__name__} of {found.ntotal} rows of {found.d}, wanted "
            f"{rows} signatures of {m}; build the atlas again"
        )
    return found


@contextmanager
def _threads(count: int) -> Generator[None]:
    """Let OpenMP use so many threads, in the calling thread and for this block only.

    One query cannot be shared out, yet would wait for idle threads: 0.8 ms against 11 ms on two
    busy cores (16,384 signatures, m = 512).
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
