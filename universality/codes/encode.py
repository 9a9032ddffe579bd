"""Encoding a probe: the codes of a dictionary over the segments."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isogloss.dictionaries import Dictionary
from isogloss.errors import Conflict, InvalidInput, NotFound, ShapeError
from isogloss.store import CodesFile, CodesWriter, RecordingReader
from isogloss.universality.codes.probed import has_sums, write_sums
from isogloss.universality.probe.probe import Probe
from isogloss.universality.probe.rows import segment_rows


def encode_probe(
    dictionary: Dictionary,
    reader: RecordingReader,
    site: str,
    probe: Probe,
    directory: Path,
    *,
    steps: Sequence[int] | None = None,
    block_rows: int = 8192,
    on_progress: Callable[[int, int], None] | None = None,
) -> CodesFile:
    """Encode a probe's segments with a dictionary; write the codes unless they are there.

    Codes are written block by block, whole or not at all: after a crash, call again.

    Args:
        dictionary: the dictionary.
        reader: reads the recording whose rows are encoded; it holds the probe's documents.
        site: site of the recording that the dictionary was trained on.
        probe: the segments.
        directory: directory of the codes, which :func:`isogloss.universality.load_probed` reads.
        steps: the training steps whose rows are encoded; None: the one that the recording has.
        block_rows: segments in memory at once.
        on_progress: called after each block with the segments done and all of them.

    Returns:
        The codes, from the directory.

    Raises:
        NotFound: the recording has no such site.
        ShapeError: the site's width is not the dictionary's.
        Conflict: the directory holds codes of another probe, dictionary, site or training step.
        InvalidInput: ``block_rows`` is below 1, spans are missing, or there are several steps.
        NoSharedDocuments: the recording holds none of the probe's documents.
        DocumentMismatch: it holds another document under the same id, or other tokens.
    """
    if block_rows < 1:
        raise InvalidInput(f"block_rows is {block_rows}, wanted at least 1")
    identity = _identity(dictionary, probe, site, steps)
    codes = _existing(directory, identity)
    if codes is not None and has_sums(directory):
        return codes
    rows, revision = segment_rows(probe, reader, steps), reader.revision.id
    # Left without sums by a crash: they are made up only for the rows that were encoded.
    if codes is None or codes.attributes.get("revision") != revision:
        with CodesWriter(directory, dictionary.features) as writer:
            for start in range(0, probe.segments, block_rows):
                writer.append(*_encode(dictionary, reader, site, rows[start : start + block_rows]))
                if on_progress is not None:
                    on_progress(min(start + block_rows, probe.segments), probe.segments)
            writer.finish({**identity, "revision": revision})
        codes = CodesFile(directory)
    write_sums(directory, codes, rows >= 0)
    return codes


def _identity(
    dictionary: Dictionary, probe: Probe, site: str, steps: Sequence[int] | None
) -> dict[str, object]:
    """Return what codes are of; a step only where one was named."""
    return {
        "kind": "codes",
        "probe": probe.uid,
        "digest": probe.digest,
        "weights": dictionary.provenance.weights_sha256,
        "site": site,
        **({} if steps is None else {"steps": sorted(set(steps))}),
    }


def _existing(directory: Path, identity: Mapping[str, object]) -> CodesFile | None:
    """Return the codes of an earlier call; refuse those of another probe, dictionary and so on."""
    try:
        codes = CodesFile(directory)
    except NotFound:
        return None
    for name in ("digest", "weights", "site", "steps"):
        found, wanted = codes.attributes.get(name), identity.get(name)
        if found != wanted:
            raise Conflict(
                f"{directory} holds codes whose {name} is {found!r}, wanted {wanted!r}; give each "
                "dictionary and probe its own directory"
            )
    return codes


def _encode(
    dictionary: Dictionary, reader: RecordingReader, site: str, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Encode one block; a segment without a row stays empty."""
    here = np.flatnonzero(rows >= 0)
    activations = reader.take(site, rows[here]).astype(np.float32)
    if activations.shape[1] != dictionary.width:
        raise ShapeError(
            f"site {site!r} of {reader.spec.recording!r} has width {activations.shape[1]}, the "
            f"dictionary {dictionary.width}; encode the site that it was trained on"
        )
    with torch.inference_mode():
        block = torch.from_numpy(activations).to(dictionary.decoder.device)
        codes = dictionary.encode(block).to_ragged()
    if codes.offsets is None:
        raise ShapeError("ragged codes have no offsets; Codes.to_ragged must give them")
    entries = np.zeros(len(rows), np.int64)
    entries[here] = np.diff(codes.offsets.cpu().numpy())
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(entries)])
    return indptr, codes.indices.cpu().numpy(), codes.values.cpu().numpy()
