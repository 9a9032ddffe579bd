"""A live torch module: sites, capture, splice, tokens and spans, documents, ancestry.

Importing this package imports neither torch nor transformers; a name's module is loaded when the
name is first used.
"""

from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.models.corpus import standard_library_texts
    from isogloss.models.fingerprint import Relatedness, ancestry, relatedness
    from isogloss.models.hooks import Capture, capture, splice
    from isogloss.models.identity.compare import Identity, compare_weights
    from isogloss.models.identity.sketch import WeightSketch, weight_sketch
    from isogloss.models.load import LoadedModel, load_model
    from isogloss.models.packaged import PACKAGED
    from isogloss.models.passes.ids.first_ids import begins_with, watch_first_ids
    from isogloss.models.passes.mode import ModelMode, check_mode
    from isogloss.models.passes.overflow import overflows
    from isogloss.models.passes.reader import PassReader, PassRows
    from isogloss.models.passes.weights import WeightWatch
    from isogloss.models.recording import CapturedRows, RecordProgress, record
    from isogloss.models.resolve import Example, document_sites, find_sites, resolve_sites
    from isogloss.models.sites import Site
    from isogloss.models.texts import TextDocument, passages
    from isogloss.models.tokens import (
        EncodedDocument,
        Encoder,
        Tokenizer,
        begin_ids,
        encoder,
        fast_backend,
        padding_id,
        special_ids,
        tokenizer_id,
        vocabulary,
    )
    from isogloss.models.wrappers import unwrapped

__all__ = [
    "PACKAGED",
    "Capture",
    "CapturedRows",
    "EncodedDocument",
    "Encoder",
    "Example",
    "Identity",
    "LoadedModel",
    "ModelMode",
    "PassReader",
    "PassRows",
    "RecordProgress",
    "Relatedness",
    "Site",
    "TextDocument",
    "Tokenizer",
    "WeightSketch",
    "WeightWatch",
    "ancestry",
    "begin_ids",
    "begins_with",
    "capture",
    "check_mode",
    "compare_weights",
    "document_sites",
    "encoder",
    "fast_backend",
    "find_sites",
    "load_model",
    "overflows",
    "padding_id",
    "passages",
    "record",
    "relatedness",
    "resolve_sites",
    "special_ids",
    "splice",
    "standard_library_texts",
    "tokenizer_id",
    "unwrapped",
    "vocabulary",
    "watch_first_ids",
    "weight_sketch",
]

_HOMES = {
    "PACKAGED": "packaged",
    "Capture": "hooks",
    "CapturedRows": "recording",
    "EncodedDocument": "tokens",
    "Encoder": "tokens",
    "Example": "resolve",
    "begin_ids": "tokens",
    "begins_with": "passes.ids.first_ids",
    "watch_first_ids": "passes.ids.first_ids",
    "Identity": "identity.compare",
    "LoadedModel": "load",
    "WeightSketch": "identity.sketch",
    "compare_weights": "identity.compare",
    "weight_sketch": "identity.sketch",
    "ModelMode": "passes.mode",
    "WeightWatch": "passes.weights",
    "check_mode": "passes.mode",
    "PassReader": "passes.reader",
    "PassRows": "passes.reader",
    "RecordProgress": "recording",
    "Relatedness": "fingerprint",
    "Site": "sites",
    "TextDocument": "texts",
    "Tokenizer": "tokens",
    "ancestry": "fingerprint",
    "capture": "hooks",
    "document_sites": "resolve",
    "encoder": "tokens",
    "fast_backend": "tokens",
    "find_sites": "resolve",
    "load_model": "load",
    "overflows": "passes.overflow",
    "padding_id": "tokens",
    "passages": "texts",
    "record": "recording",
    "relatedness": "fingerprint",
    "resolve_sites": "resolve",
    "special_ids": "tokens",
    "splice": "hooks",
    "standard_library_texts": "corpus",
    "tokenizer_id": "tokens",
    "unwrapped": "wrappers",
    "vocabulary": "tokens",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public: {__all__}")
    return load_name(f"{__name__}.{home}", name)


def __dir__() -> list[str]:
    return sorted(__all__)
