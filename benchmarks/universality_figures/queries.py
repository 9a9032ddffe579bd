"""Nearest features over gRPC among eight dictionaries and among a million features, and recall.

``PYTHONPATH=src:benchmarks python -m universality_figures.queries``

Times are of a question as a client asks it: exact correlations and the mutual flag included. Recall
is measured on features that fire by Zipf's law, share 15 to 95 % of their firings with a partner in
the other dictionary, and one in three of which has a near duplicate there.
"""

import tempfile
import time
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import grpc
import numpy as np
import scipy.sparse as sp
from house_figures.figure import Figure
from numpy.typing import NDArray
from service_figures.atlas import names, write_atlas
from service_figures.served import scratch, served
from service_figures.streams import metadata

from isogloss.proto.v1 import universality_pb2 as un
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.wire.methods import method_of
from isogloss.universality import Atlas, Probe, ProbedDictionary, nearest, signatures
from isogloss.universality.correlation.best_matches import best_matches
from isogloss.universality.testing import ProbeShape, synthetic_probe, write_probed

FEATURES = 24_576
SEGMENTS = 40_000
MILLION = 42
"""Dictionaries of that many features that hold a million."""
ASKED = 100
_DEADLINE_S = 120.0
_STRONG = 0.3
_RECALLED = 3000
"""Features of each dictionary of the recall."""


def _p50(name: str, targets: int, bar: float, asked: int) -> Figure:
    """Time questions about one feature in so many other dictionaries."""
    method = method_of(un.NearestFeaturesRequest, un.NearestFeaturesResponse)
    dictionaries = names(targets + 1)
    features = np.random.default_rng(12).permutation(FEATURES)[: asked + 2].tolist()
    took: list[float] = []
    with ExitStack() as held:
        root = held.enter_context(scratch())
        write_atlas(
            root / "store", dictionaries=len(dictionaries), features=FEATURES, segments=SEGMENTS
        )
        server = held.enter_context(served(root, "--no-workers"))
        channel = held.enter_context(
            grpc.insecure_channel(server.unix, channel_options(server.unix))
        )
        call = channel.unary_unary(method.path)
        for feature in features:
            request = un.NearestFeaturesRequest(
                feature=f"dictionaries/{dictionaries[0]}/features/{feature}",
                among=[f"dictionaries/{other}" for other in dictionaries[1:]],
                count=5,
            ).SerializeToString()
            began = time.perf_counter()
            raw = call(request, timeout=_DEADLINE_S, metadata=metadata("asking"))
            took.append(1e3 * (time.perf_counter() - began))
            hits = un.NearestFeaturesResponse.FromString(raw).hits
            if sum(hit.mutual for hit in hits) < targets / 2:
                raise RuntimeError(f"feature {feature} has no partner in most of {targets}")
    return Figure(
        figure=name, value=float(np.median(took[2:])), bar=bar,
        unit=f"ms, p50 of a question over gRPC, {targets} dictionaries of {FEATURES} features",
        peers={"p90 ms": float(np.percentile(took[2:], 90)), "first ms": took[0],
               "features": targets * FEATURES, "segments": SEGMENTS}, runs=asked,
    )  # fmt: skip


def query_8x24k(asked: int = ASKED) -> Figure:
    """Measure [query_8x24k]: p50 of a question in eight dictionaries of 24,576 features."""
    return _p50("query_8x24k", 8, 45, asked)


def query_1m(asked: int = ASKED) -> Figure:
    """Measure [query_1m]: p50 of a question among a million features, in 42 dictionaries."""
    return _p50("query_1m", MILLION, 150, asked)


def _codes(
    random: np.random.Generator, segments: int, features: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return dense codes of both dictionaries, ``[segments, features]``."""
    rates = np.minimum(0.05, 0.8 / np.arange(1, features + 1))
    rates = np.maximum(rates, 40 / segments)
    a = np.zeros((segments, features), np.float32)
    b = np.zeros_like(a)
    for feature in range(features):
        rows = random.choice(segments, int(rates[feature] * segments), replace=False)
        a[rows, feature] = random.gamma(2.0, 1.0, len(rows)) + 0.05
        kept = rows[random.random(len(rows)) < random.uniform(0.15, 0.95)]
        own = random.choice(segments, len(rows) - len(kept), replace=False)
        b[kept, feature] = a[kept, feature] * random.lognormal(0, 0.3, len(kept))
        b[own, feature] += random.gamma(2.0, 1.0, len(own)).astype(np.float32)
    for double in range(0, features - 1, 3):
        same = b[:, double] * (random.random(segments) < 0.9)
        b[:, double + 1] = same * random.lognormal(0, 0.1, segments)
    return a, b


@lru_cache(maxsize=1)
def _recalls(features: int = _RECALLED) -> dict[str, NDArray[np.float64]]:
    """Return the exact best r of each feature, whether the product and the atlas alone find it."""
    shape = ProbeShape(documents=200, length=100)
    probe = synthetic_probe(shape)
    a, b = (
        sp.csr_array(dense.astype(np.float64))
        for dense in _codes(np.random.default_rng(31), shape.segments, features)
    )
    with tempfile.TemporaryDirectory() as scratch_directory:
        root = Path(scratch_directory)
        sides = {
            name: write_probed(root / name, name, codes) for name, codes in (("a", a), ("b", b))
        }
        atlas = Atlas.build(
            {name: signatures(side, probe) for name, side in sides.items()},
            {name: side.moments.fires for name, side in sides.items()},
        )
        exact = best_matches(a.T.tocsr(), b).a
        live = np.flatnonzero((sides["a"].moments.fires >= 20) & (exact.index >= 0))
        live = live[sides["b"].moments.fires[exact.index[live]] >= 20]
        found = [_best(atlas, sides, probe, feature) for feature in live.tolist()]
        proposed = atlas.search(atlas.vectors("a", live.tolist()), ["b"])["b"].feature
    best = exact.r[live]
    return {
        "best": best,
        "found": (np.abs(np.array(found) - best) < 1e-9).astype(np.float64),
        "proposed": (proposed == exact.index[live][:, None]).any(axis=1).astype(np.float64),
    }


def _best(atlas: Atlas, sides: dict[str, ProbedDictionary], probe: Probe, feature: int) -> float:
    hits = nearest(atlas, sides, probe, dictionary="a", feature=feature, among=["b"], count=1)
    return hits[0].r if hits else 0.0


def _recall(name: str, least: float, bar: float) -> Figure:
    recalls = _recalls()
    asked = recalls["best"] >= least
    return Figure(
        figure=name, value=float(recalls["found"][asked].mean()), bar=bar, at_most=False,
        unit=f"of features whose best r >= {least}: the first hit is the exact nearest",
        peers={"by the atlas alone": float(recalls["proposed"][asked].mean()),
               "features": int(asked.sum())}, runs=int(asked.sum()),
    )  # fmt: skip


def recall_strong() -> Figure:
    """Measure [recall_strong]: first hits that are the exact nearest, where that has r >= .3."""
    return _recall("recall_strong", _STRONG, 0.999)


def recall_all() -> Figure:
    """Measure [recall_all]: the same of all features that have a partner; reported."""
    return _recall("recall_all", 0.0, 0.0)


if __name__ == "__main__":
    for measure in (recall_strong, recall_all, query_8x24k, query_1m):
        print(measure().to_dict(), flush=True)
