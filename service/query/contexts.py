"""The text around the places where features fire, read from a recording of the probe."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from isogloss.store import Document, Recording, Revision
from isogloss.universality import Context, Probe, ProbedDictionary, contexts, segment_rows


class ContextReader:
    """Finds the strongest places of features and the text around them.

    Words of the text are known to the probe. On the token grid the recording says which code
    points a token covers, or, without spans, which token it is.
    """

    def __init__(self, probe: Probe, recording: Recording, revision: Revision) -> None:
        reader = recording.reader(revision)
        self._probe = probe
        self._documents: Mapping[int, Document] = reader.documents()
        self._spans: NDArray[np.integer] | None = None
        self._tokens: list[str] | None = None
        if probe.grid == "tokens":
            columns = reader.tokens()
            # the tokens of a document are the same at every training step
            rows = segment_rows(probe, reader, tuple(reader.rows_of_steps()) or None)
            present = np.maximum(rows, 0)
            vocabulary = recording.vocabulary()
            self._tokens = [
                vocabulary[token] if token < len(vocabulary) else f"<{token}>"
                for token in columns.token_id[present].tolist()
            ]
            if columns.span is not None and bool((rows >= 0).all()):
                self._spans = columns.span[present].astype(np.int64)

    def read(
        self, probed: ProbedDictionary, feature: int, count: int, window: int = 12
    ) -> list[Context]:
        """Return at most ``count`` places of a feature, strongest first.

        Args:
            probed: the feature's dictionary on the probe.
            feature: number of the feature.
            count: most places.
            window: segments shown on each side.
        """
        return contexts(
            probed,
            self._probe,
            self._documents,
            feature,
            count,
            window=window,
            spans=self._spans,
            tokens=self._tokens,
        )
