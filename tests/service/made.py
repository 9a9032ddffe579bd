"""A store with dictionaries that were made, not trained: planted concepts are their features."""

from pathlib import Path

import numpy as np
import torch
from tests.service import planted
from tests.service.run_here import run_here

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary, save_dictionary
from isogloss.store import Store

PROBE = "made"
ACTIVE = 2


def directions(recording: str, seed: int) -> np.ndarray:
    """The direction of each concept in a planted recording, ``[concepts, width]``."""
    width = planted.WIDTHS[recording]
    found = np.random.default_rng(seed).standard_normal((planted.CONCEPTS, width))
    found = found.astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write_dictionary(store: Store, name: str, recording: str, seed: int) -> None:
    """Put a dictionary into the catalog whose feature n reads and writes concept n."""
    weights = torch.from_numpy(directions(recording, seed))
    _write(store, name, recording, planted.SITES[recording], weights)


def write_random_dictionary(store: Store, name: str, recording: str, site: str) -> None:
    """Put a dictionary of 32 random features of width 16 into the catalog."""
    _write(store, name, recording, site, torch.randn(32, 16))


def _write(store: Store, name: str, recording: str, site: str, weights: torch.Tensor) -> None:
    features, width = weights.shape
    tensors = {
        "encoder": weights.clone(),
        "encoder_bias": torch.zeros(features),
        "decoder": weights,
        "decoder_bias": torch.zeros(width),
    }
    settings = {"features": features, "k": ACTIVE}
    made = SparseDictionary.make("topk", settings, tensors, DictionaryProvenance())
    uid = store.catalog.new_uid()
    save_dictionary(made, store.artifact("dictionary", uid))
    found = store.recording(recording)
    body: dict[str, object] = {
        "kind": "topk",
        "settings": settings,
        "wiring": "sae",
        "k": ACTIVE,
        "features": features,
        "width": width,
        "provenance": {},
        "metrics": {"fvu": 0.25},
        "recording": recording,
        "recording_uid": found.uid,
        "site": site,
        "revision": found.revision().to_dict(),
    }
    store.catalog.put("dictionary", name, uid, body)


def fill(root: Path, *, probe: bool = True) -> None:
    """Make a store of two recordings, a dictionary of each, and their probe."""
    with Store.open(root) as store:
        for seed, (recording, name) in enumerate(
            (("small-docs", "small"), ("large-docs", "large")), start=1
        ):
            planted.record(store, recording, seed=seed)
            write_dictionary(store, name, recording, seed)
        if probe:
            spec = {"probe": PROBE, "recordings": list(planted.SITES), "holdout": 0.25}
            run_here(store, "probe", {**spec, "dictionaries": ["small", "large"]})
