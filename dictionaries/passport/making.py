"""The passport of a dictionary that was trained here."""

from collections.abc import Sequence

import numpy as np

from isogloss.dictionaries.passport.passport import Passport, activation_of, tensor_samples
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.sparse_dictionary import SparseDictionary

_ROWS = 2048


def make_passport(dictionary: SparseDictionary, sources: Sequence[Source]) -> Passport:
    """Write down what a dictionary was trained on.

    Args:
        dictionary: as it was saved.
        sources: its sites, in the order of the wiring; of one model, or the first is named.

    Returns:
        The passport.
    """
    specs = [source.reader.spec for source in sources]
    first = specs[0]
    sites = [spec.sites[spec.site_index(s.site)] for spec, s in zip(specs, sources, strict=True)]
    weights = first.model.ancestry.get("weights", {})
    one_model = all(spec.model.ancestry == first.model.ancestry for spec in specs)
    return Passport(
        model=first.model.name,
        revision=first.model.revision,
        weights=weights if isinstance(weights, dict) and one_model else {},
        tokenizer=first.tokenizer,
        sites=tuple(site.name for site in sites),
        widths=tuple(site.width for site in sites),
        norms=tuple(_median_norm(source) for source in sources),
        dtype=sites[0].dtype,
        begins=first.provenance.get("begins"),
        kind=dictionary.kind,
        wiring=dictionary.wiring,
        activation=activation_of(dictionary),
        tensors=tensor_samples(dictionary.tensors),
    )


def _median_norm(source: Source) -> float | None:
    """Return the median norm of some rows, in blocks spread over the recording."""
    reader, rows = source.reader, source.reader.rows
    if not rows:
        return None
    block = min(rows, _ROWS // 8)
    starts = sorted({(rows - block) * place // 7 for place in range(8)})
    parts = [reader.read(source.site, start, start + block) for start in starts]
    norms = np.linalg.norm(np.concatenate(parts).astype(np.float32), axis=1)
    median = float(np.nanmedian(norms))
    return median if np.isfinite(median) else None
