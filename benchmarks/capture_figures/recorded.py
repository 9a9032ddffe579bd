"""Record tiny models in both ways, and compare each row with the oracle's.

``python -m capture_figures.recorded STORE FOLDER NAME...`` says what comes of each architecture
whose right rows are in ``FOLDER``.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

import isogloss
from capture_figures.architectures import TinyModel, tiny_model
from capture_figures.each import tell
from capture_figures.oracle import BATCH, decoder_ids, loop_inputs, texts
from isogloss import Client
from isogloss.errors import IsoglossError
from isogloss.models import LoadedModel
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.options import RecorderOptions
from isogloss.store import Document

# A row passes at most 4 layers of at most 6 sums, each over at most 64 numbers; a sum of n numbers
# is off by at most n units in the last place (2**-24) in another order: 4 * 6 * 64 * 2**-24. What a
# wrong mask, position or layout changes is a thousand times that.
TOLERANCE = 4 * 6 * 64 * 2.0**-24
_PADDED = ("loop", "decoder")
WAYS = ("documents", "loop", "alone", "decoder")
"""By ``record_documents``; by ``client.record`` in a padded loop; in one of single texts, where the
shapes are the oracle's and the bits must be; in a padded loop at the decoder of an encoder-decoder.
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of recording one architecture in one way."""

    name: str
    """The architecture."""
    way: str
    """One of ``WAYS``."""
    rows: int = 0
    """Rows recorded."""
    wrong_rows: int = 0
    """Rows that differ from the oracle's, are missing, or are of no text."""
    gap: float = 0.0
    """Largest difference, over the largest number of the text."""
    reaches: bool = False
    """Whether padding reaches the rows of this model: those of a padded loop are then compared with
    the same padded pass, not with the text alone."""
    refused: str = ""
    """Isogloss's error, where it refused."""
    failed: str = ""
    """Any other error."""

    @property
    def is_right(self) -> bool:
        """Whether all rows are there and right."""
        return not (self.wrong_rows or self.refused or self.failed)


def record_all(
    client: Client, name: str, right: Mapping[str, NDArray[np.float32]]
) -> Iterator[Outcome]:
    """Record an architecture in each way that it has, each with a model made anew."""
    for way in WAYS:
        if way != "decoder" or "decoder 0" in right:
            yield _outcome(client, name, way, right)


def _outcome(
    client: Client, name: str, way: str, right: Mapping[str, NDArray[np.float32]]
) -> Outcome:
    recording = f"{name}-{way}".replace("_", "-")
    ways: Mapping[str, Callable[[Client, str, TinyModel], str]] = {
        "documents": _documents, "loop": _loop, "alone": _alone, "decoder": _decoder
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            site = ways[way](client, recording, tiny_model(name))
        rows = client.read(recording, site).astype(np.float32)
        columns = client.tokens(recording)
    except IsoglossError as error:
        return Outcome(name=name, way=way, refused=f"{type(error).__name__}: {error}")
    except Exception as error:
        return Outcome(name=name, way=way, failed=f"{type(error).__name__}: {str(error)[:200]}")
    kind = "decoder" if way == "decoder" else "site"
    reaches = way in _PADDED and padding_reaches(right, kind)
    prefix = "padded " if reaches else ""
    wanted: dict[int, NDArray[np.float32]] = {}
    for i, text in enumerate(texts()):
        ids = decoder_ids(text) if way == "decoder" else text
        wanted[Document.from_token_ids(ids).id] = right[f"{prefix}{kind} {i}"]
    gaps = _gaps(wanted, rows, columns.document, columns.position)
    bar = 0.0 if way == "alone" else TOLERANCE
    return Outcome(
        name=name,
        way=way,
        rows=len(rows),
        wrong_rows=int((gaps > bar).sum()),
        gap=float(gaps.max(initial=0.0)),
        reaches=reaches,
    )


def padding_reaches(right: Mapping[str, NDArray[np.float32]], kind: str) -> bool:
    """Return whether a plain padded pass gives a text other rows than it has alone.

    Args:
        right: rows of the oracle.
        kind: ``site`` or ``decoder``.
    """
    return any(
        _gap(right[f"padded {kind} {i}"], right[f"{kind} {i}"]).max() > TOLERANCE
        for i in range(len(texts()))
    )


def _gap(row: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.abs(row - right) / max(np.abs(right).max(), 1e-30)


def _gaps(
    wanted: Mapping[int, NDArray[np.float32]],
    rows: NDArray[np.float32],
    document: NDArray[np.generic],
    position: NDArray[np.generic],
) -> NDArray[np.float64]:
    """Return the gap of each row; infinite for those of no text, and once for each missing row."""
    gaps: list[float] = []
    seen: set[tuple[int, int]] = set()
    for row, key, at in zip(rows, document.tolist(), position.tolist(), strict=True):
        right = wanted.get(key)
        if right is None or at >= len(right) or (key, at) in seen or right.shape[1] != len(row):
            gaps.append(np.inf)
            continue
        seen.add((key, at))
        gaps.append(float(np.abs(row - right[at]).max() / max(np.abs(right).max(), 1e-30)))
    missing = sum(map(len, wanted.values())) - len(seen)
    return np.nan_to_num(np.array(gaps + [np.inf] * missing), nan=np.inf, posinf=np.inf)


def _documents(client: Client, recording: str, model: TinyModel) -> str:
    module, site = model.module, model.site
    if model.decoder_site is not None:  # what load_model gives of an encoder-decoder
        module, site = model.module.get_encoder(), site.removeprefix("encoder.")
    loaded = LoadedModel(module=module, name=recording)
    options = DocumentOptions(dtype="float32", batch_rows=64)
    client.record_documents(loaded, texts(), sites=[site], recording=recording, options=options)
    return site


def _loop(client: Client, recording: str, model: TinyModel) -> str:
    _run_loop(client, recording, model, model.site, BATCH)
    return model.site


def _alone(client: Client, recording: str, model: TinyModel) -> str:
    _run_loop(client, recording, model, model.site, 1)
    return model.site


def _decoder(client: Client, recording: str, model: TinyModel) -> str:
    site = model.decoder_site or ""
    _run_loop(client, recording, model, site, BATCH)
    return site


def _run_loop(client: Client, recording: str, model: TinyModel, site: str, batch: int) -> None:
    """Run the model over the texts as a user's loop does, with a recorder that raises."""
    options = RecorderOptions(strict=True)
    all_texts = texts()
    with client.record(
        model.module, sites=[site], recording=recording, dtype="float32", options=options
    ):
        for start in range(0, len(all_texts), batch):
            some = all_texts[start : start + batch]
            with torch.no_grad():
                model.module(**loop_inputs(model, some))


def main(store: Path, folder: Path, names: Sequence[str]) -> None:
    """Record each architecture and say what came of it."""
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    logging.getLogger("isogloss").setLevel(logging.CRITICAL)  # what went wrong is in the outcomes
    with isogloss.connect(store) as client:
        for name in names:
            with np.load(folder / f"{name}.npz") as right:
                found = [asdict(outcome) for outcome in record_all(client, name, right)]
            tell(name, {"outcomes": found})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
