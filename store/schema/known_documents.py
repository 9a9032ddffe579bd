"""Known documents: which documents have rows at which training step, and how many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.store.schema.steps import StepInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownDocuments:
    """Pairs of a document and a step, ascending by step and then by document, none of them twice.

    A document is known per step: rows of it that were recorded at another step, when the model had
    other weights, do not make it known.
    """

    document: NDArray[np.uint64]
    """:attr:`Document.id`, ``[pairs]``."""

    step: NDArray[np.uint64]
    """Training step, ``[pairs]``."""

    rows: NDArray[np.int64]
    """How many rows of the document were recorded at the step, ``[pairs]``."""

    def __post_init__(self) -> None:
        if not len(self.document) == len(self.step) == len(self.rows):
            raise ShapeError(
                f"{len(self.document)} documents, {len(self.step)} steps and {len(self.rows)} "
                "counts of rows must be as many"
            )

    @classmethod
    def count(
        cls, document: NDArray[np.generic], step: NDArray[np.generic], rows: NDArray[np.generic]
    ) -> "KnownDocuments":
        """Add up the rows of each pair.

        Args:
            document: ids, ``[n]``.
            step: training steps, ``[n]``.
            rows: numbers of rows, ``[n]``.

        Returns:
            Each pair once, in order.
        """
        ids, steps = np.asarray(document, np.uint64), np.asarray(step, np.uint64)
        order = np.lexsort((ids, steps))
        ids, steps = ids[order], steps[order]
        starts = _starts(ids, steps)
        counts = np.asarray(rows, np.int64)[order]
        total = np.add.reduceat(counts, starts) if len(starts) else counts
        return cls(document=ids[starts], step=steps[starts], rows=total)

    @classmethod
    def of_columns(
        cls, document: NDArray[np.generic], step: NDArray[np.generic]
    ) -> "KnownDocuments":
        """Count the rows whose documents and steps are given, one entry a row."""
        # rows of one document stand together: a count of each run first leaves little to sort
        starts = _starts(document, step)
        rows = np.diff(starts, append=len(document))
        return cls.count(document[starts], step[starts], rows)

    @classmethod
    def merge(cls, parts: Sequence["KnownDocuments"]) -> "KnownDocuments":
        """Add up several; none give none."""
        return cls.count(
            np.concatenate([np.empty(0, np.uint64), *(part.document for part in parts)]),
            np.concatenate([np.empty(0, np.uint64), *(part.step for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)]),
        )

    def at(self, step: int) -> "KnownDocuments":
        """Return the pairs of one step."""
        low = int(np.searchsorted(self.step, np.uint64(step), "left"))
        high = int(np.searchsorted(self.step, np.uint64(step), "right"))
        return KnownDocuments(
            document=self.document[low:high], step=self.step[low:high], rows=self.rows[low:high]
        )

    def by_document(self) -> dict[int, int]:
        """Return how many rows each document has over all pairs, by :attr:`Document.id`."""
        found: dict[int, int] = {}
        for document, rows in zip(self.document.tolist(), self.rows.tolist(), strict=True):
            found[document] = found.get(document, 0) + rows
        return found

    def steps(self) -> tuple[StepInfo, ...]:
        """Return each step with its rows and documents, ascending."""
        starts = _starts(self.step, self.step)
        if not len(starts):
            return ()
        rows = np.add.reduceat(self.rows, starts).tolist()
        documents = np.diff(starts, append=len(self.step)).tolist()
        steps = self.step[starts].tolist()
        return tuple(
            StepInfo(step=step, rows=count, documents=different)
            for step, count, different in zip(steps, rows, documents, strict=True)
        )


def _starts(one: NDArray[np.generic], other: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return where a run of equal pairs starts."""
    if not len(one):
        return np.empty(0, np.int64)
    is_new = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return np.concatenate([[0], np.flatnonzero(is_new) + 1]).astype(np.int64)
