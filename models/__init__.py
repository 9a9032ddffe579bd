"""A live torch module: sites, capture, splice, tokens and spans, documents, ancestry.

Importing this package imports neither torch nor transformers; a name's module is loaded when the
name is first used.
"""

from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.models.attention.panel import attention_page, attention_svg
    from isogloss.models.attention.patterns import (
        AttentionPatterns,
        Head,
        attention_patterns,
        head_counts,
        layer_sites,
        read_head,
    )
    from isogloss.models.attention.prompts import (
        Prompt,
        check_ids,
        read_prompt,
        start_ids,
        table_size,
        token_name,
        token_windows,
    )
    from isogloss.models.attention.scores import KINDS, HeadScores, head_scores, repeated_ids
    from isogloss.models.circuits.circuit import Circuit, find_circuit
    from isogloss.models.circuits.curve import CircuitCurve, circuit_curve
    from isogloss.models.circuits.drawing import circuit_page, circuit_svg
    from isogloss.models.circuits.graph import CircuitNode, Graph, Link
    from isogloss.models.circuits.scores import SCORINGS, EdgeScores, score_edges
    from isogloss.models.circuits.tracer_json import read_graph, write_graph
    from isogloss.models.corpus import standard_library_texts
    from isogloss.models.elements.place import distinct_sites
    from isogloss.models.fingerprint import Relatedness, ancestry, relatedness
    from isogloss.models.hooks import Capture, capture, evaluating, splice
    from isogloss.models.identity.compare import Identity, compare_weights
    from isogloss.models.identity.sketch import WeightSketch, weight_sketch
    from isogloss.models.load import load_model
    from isogloss.models.packaged import PACKAGED
    from isogloss.models.pages.page import readable
    from isogloss.models.passes.ids.first_ids import begins_with, watch_first_ids
    from isogloss.models.passes.mode import ModelMode, check_mode
    from isogloss.models.passes.overflow import overflows
    from isogloss.models.passes.reader import PassReader, PassRows
    from isogloss.models.passes.weights import WeightWatch
    from isogloss.models.patching.ablations import ablate
    from isogloss.models.patching.attribution import agreement, attribute
    from isogloss.models.patching.heat_map import trace_page, trace_svg
    from isogloss.models.patching.metrics import (
        METRICS,
        Metric,
        check_metric,
        last_logits,
        measure,
        next_logits,
        permutation_p,
    )
    from isogloss.models.patching.pairs import (
        TextPairs,
        check_pairs,
        greater_than_pairs,
        indirect_object_pairs,
        induction_pairs,
        text_pairs,
    )
    from isogloss.models.patching.tracing import Trace, told_apart, trace
    from isogloss.models.recording import CapturedRows, RecordProgress, record
    from isogloss.models.resolve import Example, document_sites, find_sites, resolve_sites
    from isogloss.models.sites import Site, is_site_of
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
    from isogloss.models.wrappers import LoadedModel, unwrapped

__all__ = [
    "KINDS",
    "METRICS",
    "PACKAGED",
    "SCORINGS",
    "AttentionPatterns",
    "Capture",
    "CapturedRows",
    "Circuit",
    "CircuitCurve",
    "CircuitNode",
    "EdgeScores",
    "EncodedDocument",
    "Encoder",
    "Example",
    "Graph",
    "Head",
    "HeadScores",
    "Identity",
    "Link",
    "LoadedModel",
    "Metric",
    "ModelMode",
    "PassReader",
    "PassRows",
    "Prompt",
    "RecordProgress",
    "Relatedness",
    "Site",
    "TextDocument",
    "TextPairs",
    "Tokenizer",
    "Trace",
    "WeightSketch",
    "WeightWatch",
    "ablate",
    "agreement",
    "ancestry",
    "attention_page",
    "attention_patterns",
    "attention_svg",
    "attribute",
    "begin_ids",
    "begins_with",
    "capture",
    "check_ids",
    "check_metric",
    "check_mode",
    "check_pairs",
    "circuit_curve",
    "circuit_page",
    "circuit_svg",
    "compare_weights",
    "distinct_sites",
    "document_sites",
    "encoder",
    "evaluating",
    "fast_backend",
    "find_circuit",
    "find_sites",
    "greater_than_pairs",
    "head_counts",
    "head_scores",
    "indirect_object_pairs",
    "induction_pairs",
    "is_site_of",
    "last_logits",
    "layer_sites",
    "load_model",
    "measure",
    "next_logits",
    "overflows",
    "padding_id",
    "passages",
    "permutation_p",
    "read_graph",
    "read_head",
    "read_prompt",
    "readable",
    "record",
    "relatedness",
    "repeated_ids",
    "resolve_sites",
    "score_edges",
    "special_ids",
    "splice",
    "standard_library_texts",
    "start_ids",
    "table_size",
    "text_pairs",
    "token_name",
    "token_windows",
    "tokenizer_id",
    "told_apart",
    "trace",
    "trace_page",
    "trace_svg",
    "unwrapped",
    "vocabulary",
    "watch_first_ids",
    "weight_sketch",
    "write_graph",
]

_HOMES = {
    "Metric": "patching.metrics",
    "check_metric": "patching.metrics",
    "permutation_p": "patching.metrics",
    "last_logits": "patching.metrics",
    "measure": "patching.metrics",
    "told_apart": "patching.tracing",
    "check_ids": "attention.prompts",
    "start_ids": "attention.prompts",
    "table_size": "attention.prompts",
    "token_name": "attention.prompts",
    "token_windows": "attention.prompts",
    "distinct_sites": "elements.place",
    "evaluating": "hooks",
    "next_logits": "patching.metrics",
    "Circuit": "circuits.circuit",
    "find_circuit": "circuits.circuit",
    "CircuitCurve": "circuits.curve",
    "circuit_curve": "circuits.curve",
    "circuit_page": "circuits.drawing",
    "circuit_svg": "circuits.drawing",
    "Graph": "circuits.graph",
    "Link": "circuits.graph",
    "CircuitNode": "circuits.graph",
    "SCORINGS": "circuits.scores",
    "EdgeScores": "circuits.scores",
    "score_edges": "circuits.scores",
    "read_graph": "circuits.tracer_json",
    "write_graph": "circuits.tracer_json",
    "AttentionPatterns": "attention.patterns",
    "Capture": "hooks",
    "CapturedRows": "recording",
    "EncodedDocument": "tokens",
    "Encoder": "tokens",
    "Example": "resolve",
    "begin_ids": "tokens",
    "begins_with": "passes.ids.first_ids",
    "watch_first_ids": "passes.ids.first_ids",
    "Identity": "identity.compare",
    "LoadedModel": "wrappers",
    "WeightSketch": "identity.sketch",
    "compare_weights": "identity.compare",
    "weight_sketch": "identity.sketch",
    "Head": "attention.patterns",
    "HeadScores": "attention.scores",
    "KINDS": "attention.scores",
    "METRICS": "patching.metrics",
    "ModelMode": "passes.mode",
    "PACKAGED": "packaged",
    "TextPairs": "patching.pairs",
    "check_pairs": "patching.pairs",
    "PassReader": "passes.reader",
    "PassRows": "passes.reader",
    "Prompt": "attention.prompts",
    "RecordProgress": "recording",
    "Relatedness": "fingerprint",
    "Site": "sites",
    "TextDocument": "texts",
    "Tokenizer": "tokens",
    "Trace": "patching.tracing",
    "WeightWatch": "passes.weights",
    "ablate": "patching.ablations",
    "agreement": "patching.attribution",
    "ancestry": "fingerprint",
    "attention_page": "attention.panel",
    "attention_patterns": "attention.patterns",
    "attention_svg": "attention.panel",
    "attribute": "patching.attribution",
    "capture": "hooks",
    "check_mode": "passes.mode",
    "document_sites": "resolve",
    "encoder": "tokens",
    "fast_backend": "tokens",
    "find_sites": "resolve",
    "greater_than_pairs": "patching.pairs",
    "head_scores": "attention.scores",
    "indirect_object_pairs": "patching.pairs",
    "induction_pairs": "patching.pairs",
    "is_site_of": "sites",
    "layer_sites": "attention.patterns",
    "load_model": "load",
    "overflows": "passes.overflow",
    "padding_id": "tokens",
    "passages": "texts",
    "read_head": "attention.patterns",
    "read_prompt": "attention.prompts",
    "readable": "pages.page",
    "head_counts": "attention.patterns",
    "record": "recording",
    "relatedness": "fingerprint",
    "repeated_ids": "attention.scores",
    "resolve_sites": "resolve",
    "special_ids": "tokens",
    "splice": "hooks",
    "standard_library_texts": "corpus",
    "text_pairs": "patching.pairs",
    "tokenizer_id": "tokens",
    "trace": "patching.tracing",
    "trace_page": "patching.heat_map",
    "trace_svg": "patching.heat_map",
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
