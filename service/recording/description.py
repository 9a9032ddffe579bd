"""What a live model's recording is: sites with widths, tokenizer, vocabulary, ancestry.

Importing this module loads no torch: the room ``models`` loads what is asked of it at first use.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from isogloss import models
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec

Precision = Literal["bfloat16", "float16", "float32"]


class HasVocabulary(Protocol):
    """What every tokenizer has."""

    def get_vocab(self) -> dict[str, int]:
        """Return token string -> id."""
        ...


def describe(
    model: "models.LoadedModel",
    sites: Sequence[str],
    *,
    recording: str,
    corpus: str,
    dtype: Precision,
    has_spans: bool,
    provenance: Mapping[str, str] | None = None,
) -> tuple[RecordingSpec, tuple[str, ...]]:
    """Return the description of a recording of ``model``, and the vocabulary of its tokenizer.

    What else decides the rows belongs into ``provenance``: a recording goes on only with what it
    was begun with.

    Raises:
        UnknownSite: a name matches nothing in the model; the message lists the nearest names.
    """
    found = models.resolve_sites(model.module, sites)
    tokenizer = model.tokenizer
    spec = RecordingSpec(
        recording=recording,
        model=ModelInfo(
            name=model.name,
            revision=model.revision,
            ancestry=models.ancestry(model.module, tokenizer),
        ),
        tokenizer=f"ids of {model.name}" if tokenizer is None else models.tokenizer_id(tokenizer),
        corpus=corpus,
        sites=tuple(SiteSpec(name=s.name, width=s.width, dtype=dtype) for s in found),
        has_spans=has_spans,
        provenance=provenance or {},
    )
    return spec, () if tokenizer is None else models.vocabulary(tokenizer)
