"""How long a question about a text takes: which features of all dictionaries fire on its tokens.

The activations of 20 tokens are sent to a server, which encodes them by eight dictionaries of
24,576 features at width 768 and answers with the best five of each. The model's own pass is not in
it. Runs alone: ``PYTHONPATH=src:benchmarks python -m hand_figures.text_query --json``.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from house_figures.figure import Figure, show
from service_figures.served import scratch, served

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary, save_dictionary
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.client.asking.nearest import answered, to_tensor
from isogloss.service.client.connect import connect
from isogloss.service.values.results import Hits
from isogloss.store import SiteSpec, Store
from isogloss.store.testing import sample_spec

RECORDING, SITE = "documents", "layer.6"
TOKENS, WIDTH, FEATURES, DICTIONARIES, ACTIVE = 20, 768, 24_576, 8, 32
_ROUNDS = 30


def plant_dictionaries(root: Path, *, features: int, dictionaries: int) -> None:
    """Write a store with a recording and dictionaries of random weights on it.

    Args:
        root: the store's directory.
        features: of each dictionary.
        dictionaries: how many.
    """
    with Store.open(root) as store:
        site = SiteSpec(name=SITE, width=WIDTH, dtype="float32")
        recording = store.create_recording(sample_spec(RECORDING, sites=(site,)), ["a"])
        revision = recording.revision()
        for number in range(dictionaries):
            chance = torch.Generator().manual_seed(number)
            decoder = torch.randn(features, WIDTH, generator=chance)
            decoder /= decoder.norm(dim=1, keepdim=True)
            tensors = {
                "encoder": decoder.clone(),
                "encoder_bias": torch.zeros(features),
                "decoder": decoder,
                "decoder_bias": torch.zeros(WIDTH),
            }
            settings = {"features": features, "k": ACTIVE}
            made = SparseDictionary.make("topk", settings, tensors, DictionaryProvenance())
            uid = store.catalog.new_uid()
            save_dictionary(made, store.artifact("dictionary", uid))
            body: dict[str, object] = {
                "kind": "topk",
                "settings": settings,
                "wiring": "sae",
                "k": ACTIVE,
                "features": features,
                "width": WIDTH,
                "provenance": {},
                "metrics": {},
                "recording": RECORDING,
                "recording_uid": recording.uid,
                "site": SITE,
                "revision": revision.to_dict(),
            }
            store.catalog.put("dictionary", f"dictionary-{number}", uid, body)


def measure(
    *, features: int = FEATURES, dictionaries: int = DICTIONARIES, rounds: int = _ROUNDS
) -> Iterator[dict[str, object]]:
    """Ask a served store, and time each answer after the first two."""
    with scratch() as folder:
        plant_dictionaries(folder / "store", features=features, dictionaries=dictionaries)
        rows = np.random.default_rng(0).standard_normal((TOKENS, WIDTH)).astype(np.float32)
        request = pb.NearestFeaturesRequest(count=5)
        request.rows.add(recording=f"recordings/{RECORDING}", site=SITE, rows=to_tensor(rows))
        times_ms, hits = list[float](), Hits()
        with served(folder) as server, connect(server.unix, timeout_s=300) as client:
            for _ in range(rounds + 2):
                began = time.perf_counter()
                hits = client.run(answered(request, ()))
                times_ms.append(1e3 * (time.perf_counter() - began))
        answered_by = {hit.dictionary for hit in hits}
    timed = times_ms[2:]
    yield Figure(
        figure="text_query",
        value=statistics.median(timed),
        bar=60.0,
        unit="ms, p50",
        peers={
            "first_ms": round(times_ms[0], 1),
            "quickest_ms": round(min(timed), 1),
            "dictionaries": len(answered_by),
            "features": features,
        },
        runs=rounds,
        is_doubtful=len(answered_by) != dictionaries or features != FEATURES,
    ).to_dict()


if __name__ == "__main__":
    sys.exit(show(measure(), is_json="--json" in sys.argv))
