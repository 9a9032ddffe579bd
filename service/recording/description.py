"""What a live model's recording is: sites with widths, tokenizer, vocabulary, ancestry."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec

if TYPE_CHECKING:
    from torch import Tensor

    from isogloss.models import LoadedModel

Precision = Literal["bfloat16", "float16", "float32"]


class Tokenizer(Protocol):
    """What every tokenizer has."""

    def get_vocab(self) -> dict[str, int]:
        """Return token string -> id."""
        ...


def describe(
    model: "LoadedModel",
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
    # torch takes a second to import, and only recording needs it
    from isogloss.models import ancestry, resolve_sites, tokenizer_id, vocabulary

    found = resolve_sites(model.module, sites)
    tokenizer = model.tokenizer
    spec = RecordingSpec(
        recording=recording,
        model=ModelInfo(
            name=model.name, revision=model.revision, ancestry=ancestry(model.module, tokenizer)
        ),
        tokenizer=f"ids of {model.name}" if tokenizer is None else tokenizer_id(tokenizer),
        corpus=corpus,
        sites=tuple(SiteSpec(name=s.name, width=s.width, dtype=dtype) for s in found),
        has_spans=has_spans,
        provenance=provenance or {},
    )
    return spec, () if tokenizer is None else vocabulary(tokenizer)


def to_numpy(rows: "Tensor", site: SiteSpec) -> NDArray[np.generic]:
    """Return the rows of a tensor on the CPU as numpy, uncopied where the dtype fits.

    Raises:
        ShapeError: they are not ``[rows, width]`` of the site.
    """
    import torch

    if rows.ndim != 2 or rows.shape[1] != site.width:
        raise ShapeError(f"site {site.name!r} gave {list(rows.shape)}, wanted [rows, {site.width}]")
    wanted = {
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "float32": torch.float32,
    }[site.dtype]
    plain = rows.detach().to(device="cpu", dtype=wanted).contiguous()
    # numpy knows no bfloat16 of torch's: the bits pass as integers
    bits = plain.view(torch.int16) if wanted == torch.bfloat16 else plain
    return bits.numpy().view(site.numpy_dtype)
