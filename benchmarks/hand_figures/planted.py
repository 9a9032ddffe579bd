"""Dictionaries of random weights, alone or in a store, for the figures of ``hand.py``."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from isogloss.dictionaries import (
    DictionaryProvenance,
    SparseDictionary,
    TrainConfig,
    load_provenance,
    save_dictionary,
)
from isogloss.service.values.dictionary_bodies import source_to_dict
from isogloss.service.values.results import SourceInfo
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec, Store

K = 8


def random_dictionary(kind: str, features: int, width: int, seed: int) -> SparseDictionary:
    """Return a dictionary of a kind with random weights."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int, by: float) -> Tensor:
        return by * torch.randn(*shape, generator=generator)

    tensors = {
        "encoder": numbers(features, width, by=width**-0.5),
        "encoder_bias": numbers(features, by=0.1),
        "decoder": numbers(features, width, by=width**-0.5),
        "decoder_bias": numbers(width, by=0.3),
    }
    settings: Mapping[str, object] = {"features": features}
    if kind in ("topk", "batch_topk"):
        settings = {"features": features, "k": K}
    if kind == "batch_topk":
        tensors["threshold"] = torch.tensor(0.7)
    if kind == "jumprelu":
        tensors["threshold"] = numbers(features, by=1.0).abs() + 0.2
    return SparseDictionary.make(kind, settings, tensors, DictionaryProvenance())


def place(store: Store, made: SparseDictionary, name: str) -> None:
    """Put a dictionary into a store as if it had been trained on an empty recording there."""
    spec = RecordingSpec(
        recording=f"{name}-docs",
        model=ModelInfo(name="none"),
        tokenizer="none",
        corpus="none",
        sites=(SiteSpec(name="s", width=made.width, dtype="float32"),),
        has_spans=False,
    )
    recording = store.create_recording(spec, ["x"])
    source = SourceInfo(
        recording=recording.id,
        recording_uid=recording.uid,
        site="s",
        revision=recording.revision(),
    )
    settings = {"features": made.features, "k": K}
    config = TrainConfig(kind=made.kind, settings=settings)
    made = replace(made, provenance=replace(made.provenance, config=config))
    uid = store.catalog.new_uid()
    directory = store.artifact("dictionary", uid)
    save_dictionary(made, directory)
    body: dict[str, object] = {
        "kind": made.kind,
        "settings": settings,
        "wiring": made.wiring,
        "features": made.features,
        "width": made.width,
        "k": K,
        **source_to_dict(source),
        "sources": [source_to_dict(source)],
        "provenance": load_provenance(directory).to_dict(),
        "metrics": {},
    }
    store.catalog.put("dictionary", name, uid, body)
