"""Report data as a match job saves it: the form of the real thing, with made-up numbers."""

# pyright: basic
# JSON of mixed types, built by hand: strict typing would say nothing that a reader needs.

import math
import random
from typing import cast

_TEXT = (
    "the function returns a new list of integers when called without arguments and raises an "
    "exception if the file cannot be opened for reading so that the caller may decide what to do "
    "with the remaining bytes in the buffer before closing the underlying stream object"
)
WORDS = _TEXT.split()

HOSTILE = '<script>alert("x")</script> & "quotes" \u202egnp.exe \x07 </style>' + "x" * 90


def report(
    match: str = "minilm-mpnet",
    *,
    models: tuple[str, str] = ("packaged:minilm-l6", "packaged:mpnet-base"),
    related: bool = False,
    text: str | None = None,
    seed: int = 0,
) -> dict[str, object]:
    """Return report data; ``text`` replaces the text of some contexts."""
    rng = random.Random(seed)
    pairs = [_pair(rng, related) for _ in range(900)]
    pairs.sort(key=lambda row: -float(str(row["r"])))
    shown = {
        "best": pairs[:12],
        "beyond_token": sorted(pairs, key=lambda row: -float(str(row["partial_token"])))[:12],
        "typical": pairs[400:412],
        "unreplicated": [{**row, "replicates": "no"} for row in pairs[-5:]],
    }
    cautions = [
        {
            "code": "TOKEN_DRIVEN",
            "message": "For 61% of the 612 pairs with r >= 0.3 the token alone gives at least half "
            "of r; among segments of the same token the median correlation is 0.21. Much of what "
            "is shared is which word stands there.",
            "value": 0.61,
        }
    ]
    if related:
        cautions.append(
            {
                "code": "SHARED_ANCESTRY",
                "message": "The two models are related (their word embeddings agree in 30,522 of "
                "30,522 rows; similarity 0.98). Features they share may be inherited, not found "
                "independently.",
                "value": 0.98,
            }
        )
    return {
        "schema_version": 1,
        "isogloss": "0.1.0",
        "match": match,
        "created": 1_790_000_000.0,
        "data": _data(rng, pairs, shown, cautions),
        "probe": {
            "id": "probe-3f21aa90c1d2",
            "uid": "0198f2c3b7a1d2e3f4a5b6c7",
            "recordings": ["minilm-docs", "mpnet-docs"],
            "grid": "word_ends",
            "holdout": 0.25,
            "documents": 1204,
            "segments": 88_487,
        },
        "sides": {"a": _side(models[0], 0), "b": _side(models[1], 1)},
        "contexts_a": _contexts(rng, shown, "feature_a", text),
        "contexts_b": _contexts(rng, shown, "feature_b", text),
        "activations_a": _activations(shown, "a"),
        "activations_b": _activations(shown, "b"),
    }


def _activations(shown: dict[str, list[dict[str, object]]], key: str) -> dict[str, object]:
    """How often each feature that is shown fires on the whole probe, and how strongly."""
    counts = [round(400 * 0.7**step) for step in range(20)]
    return {
        str(row[f"feature_{key}"]): {
            "fires": 2 * int(str(row[f"fires_{key}"])) + 1,
            "highest": 9.25,
            "edges": [9.25 * step / 20 for step in range(21)],
            "counts": counts,
        }
        for rows in shown.values()
        for row in rows
    }


def _pair(rng: random.Random, related: bool) -> dict[str, object]:
    r = min(0.97, max(0.02, rng.betavariate(2.2, 3.0)))
    share = rng.betavariate(2, 1.2) if related else rng.betavariate(1.5, 1.8)
    token_null = r * share
    partial = max(-0.2, min(0.95, r * (1 - share) * 1.25 + rng.gauss(0, 0.04)))
    fires = round(10 ** rng.uniform(1.4, 3.6))
    return {
        "feature_a": rng.randrange(4096),
        "feature_b": rng.randrange(4096),
        "r_choose": min(r + 0.04, 1.0),
        "margin": rng.uniform(0, 0.3),
        "r": r,
        "ci_low": r - rng.uniform(0.02, 0.1),
        "ci_high": min(1.0, r + rng.uniform(0.02, 0.1)),
        "fires_a": fires,
        "fires_b": round(fires * rng.uniform(0.7, 1.4)),
        "cofires": round(fires * r),
        "together": 2 * round(fires * r),
        "jaccard": r * 0.7,
        "token_null": token_null,
        "position_null": 0.01,
        "document_null": 0.03,
        "partial_token": partial,
        "eta2_token_a": 0.3,
        "eta2_token_b": 0.4,
        "ci_high_loose": fires * r < 10,
        "rank_a": 1,
        "rank_b": 1,
        "replicates": "yes" if r > 0.3 else "undecided",
        "beyond_token": "yes" if partial >= 0.2 else "no" if fires >= 100 else "undecided",
        "beyond_partial": partial,
        "beyond_low": partial - 0.1,
        "beyond_high": partial + 0.1,
        "beyond_p": 0.001,
        "movable": fires,
        "positional": False,
        "excess": r - token_null,
        "explained_by": "token" if share >= 0.5 else rng.choice(["none"] * 9 + ["position"]),
    }


def _data(
    rng: random.Random,
    pairs: list[dict[str, object]],
    shown: dict[str, list[dict[str, object]]],
    cautions: list[dict[str, object]],
) -> dict[str, object]:
    r = [float(str(row["r"])) for row in pairs]
    partial = [float(str(row["partial_token"])) for row in pairs]
    thresholds = [round(0.05 * step, 2) for step in range(1, 20)]
    decay = {"none": 14.0, "token": 5.5, "position": 13.0}
    nulls = {key: [900 * math.exp(-rate * t) for t in thresholds] for key, rate in decay.items()}
    edges = [round(step / 40, 3) for step in range(41)]
    bump = [round(180 * math.exp(-(((edge - 0.35) / 0.18) ** 2))) for edge in edges[:-1]]
    free = [round(900 * math.exp(-(((edge - 0.08) / 0.05) ** 2))) for edge in edges[:-1]]
    token = [round(260 * math.exp(-(((edge - 0.24) / 0.13) ** 2))) for edge in edges[:-1]]
    return {
        "version": 2,
        "a": _counts("minilm-a", 3402, rng),
        "b": _counts("mpnet-a", 3120, rng),
        "probe": {
            "id": "probe-3f21aa90c1d2",
            "grid": "word_ends",
            "segments": {"choose": 44_012, "report": 44_475},
            "documents": {"choose": 598, "report": 606},
            "sources": {"choose": 61, "report": 58},
        },
        "chance": 8.4,
        "settings": {"min_fires": 20, "min_r": 0.1, "keys": ["none", "token"], "draws": 3},
        "pairs": len(pairs),
        "counts": [_level(pairs, level, decay) for level in (0.3, 0.5, 0.7)],
        "curves": {
            "thresholds": thresholds,
            "shared": [sum(x >= t for x in r) for t in thresholds],
            "nulls": nulls,
            "beyond_token": [sum(x >= t for x in partial) for t in thresholds],
            "replicates": [sum(x >= t for x in r) - 3 for t in thresholds],
        },
        "best": {
            "edges": edges,
            "a": bump,
            "b": [round(count * 0.9) for count in bump],
            "nulls": {"none": {"a": free, "b": free}, "token": {"a": token, "b": token}},
        },
        "scatter": {
            "feature_a": [row["feature_a"] for row in pairs],
            "feature_b": [row["feature_b"] for row in pairs],
            "r": r,
            "partial_token": [None if i % 97 == 0 else p for i, p in enumerate(partial)],
            "token_null": [row["token_null"] for row in pairs],
            "margin": [row["margin"] for row in pairs],
            "fires": [
                min(cast("int", row["fires_a"]), cast("int", row["fires_b"])) for row in pairs
            ],
            "explained_by": [row["explained_by"] for row in pairs],
            "beyond_token": [row["beyond_token"] for row in pairs],
        },
        "bands": [
            _band(20, 50, 801, 0.18, 0.19),
            _band(50, 100, 760, 0.24, 0.17),
            _band(100, 500, 1204, 0.38, 0.12),
            _band(500, 2000, 520, 0.52, 0.08),
            _band(2000, None, 117, 0.61, 0.06),
        ],
        "examples": shown,
        "cautions": cautions,
        "margins": {
            "from": [0.0, 0.01, 0.1, 0.5],
            "pairs": [12, 0, 40, 1_030],
            "mutual_again": [5, 0, 31, 1_001],
            "replicates": [4, 0, 30, 987],
        },
        "mean_best": {
            "a": {"features": 0.412, "by_fires": 0.39, "by_mass": 0.38},
            "b": {"features": 0.427, "by_fires": 0.4, "by_mass": 0.385},
            "nulls": {
                key: {
                    side: {"features": low, "by_fires": low / 2, "by_mass": low / 2}
                    for side in "ab"
                }
                for key, low in (("none", 0.14), ("token", 0.31))
            },
        },
    }


def _counts(dictionary: str, compared: int, rng: random.Random) -> dict[str, object]:
    edges = [round(-4 + 0.1 * step, 2) for step in range(41)]
    centre = rng.uniform(-2.6, -2.2)
    counts = [round(320 * math.exp(-(((edge - centre) / 0.6) ** 2))) for edge in edges[:-1]]
    return {
        "dictionary": dictionary,
        "features": 4096,
        "compared": compared,
        "rare": 4096 - compared - 214,
        "dead": 214,
        "density": {"edges": edges, "counts": counts},
    }


def _level(
    pairs: list[dict[str, object]], level: float, decay: dict[str, float]
) -> dict[str, object]:
    shared = [row for row in pairs if float(str(row["r"])) >= level]
    labels = [row["explained_by"] for row in shared]
    return {
        "threshold": level,
        "shared": len(shared),
        "replicates": {"yes": len(shared) - 3, "no": 2, "undecided": 1},
        "nulls": {key: 900 * math.exp(-rate * level) for key, rate in decay.items()},
        "null_errors": dict.fromkeys(decay, 0.4),
        "beyond_token": {
            label: sum(row["beyond_token"] == label for row in shared)
            for label in ("yes", "no", "undecided")
        },
        "median_partial_token": 0.24 + level / 5,
        "explained_by": {
            name: labels.count(name) for name in ("token", "position", "document", "none")
        },
    }


def _band(
    low: int, high: int | None, features: int, share: float, null: float
) -> dict[str, object]:
    return {
        "fires_from": low,
        "fires_to": high,
        "features": features,
        "shared": round(features * share),
        "share": share,
        "null_best": {"none": null, "token": null + 0.1},
        "median_best": share * 0.9,
    }


def _side(model: str, seed: int) -> dict[str, object]:
    name = model.rsplit(":", 1)[-1]
    return {
        "dictionary": f"{name}-4096",
        "uid": "0198f2c3b7a1d2e3f4a5b6c8",
        "model": model,
        "model_revision": "",
        "tokenizer": "9d1c" * 16,
        "corpus": "standard-library",
        "recording": f"{name}-docs",
        "recording_uid": "0198f2c3b7a1d2e3f4a5b6c9",
        "recorded_with": {"isogloss": "0.1.0", "attention_mask": "padding dropped"},
        "revision": "5f3a9c1e77d0b2aa",
        "rows": 402_118,
        "site": "encoder.layer.3",
        "kind": "topk",
        "features": 4096,
        "width": 384,
        "k": 32,
        "provenance": {
            "config": {"kind": "topk", "features": 4096, "k": 32, "seed": seed, "epochs": 4.0},
            "init_hash": "ab" * 32,
            "init_cosine": 0.31,
            "weights_sha256": "cd" * 32,
            "rows_trained": 1_206_354,
            "curve": [
                {"rows": 12_000 * step, "fvu": 0.22 + 0.7 * math.exp(-step / (9 + 4 * seed))}
                for step in range(100)
            ],
        },
        "metrics": {"rows": 65_536, "fvu": 0.231 + 0.02 * seed, "l0": 32.0, "dead_fraction": 0.05},
    }


def _contexts(
    rng: random.Random,
    shown: dict[str, list[dict[str, object]]],
    column: str,
    text: str | None,
) -> dict[str, object]:
    features = {str(row[column]) for rows in shown.values() for row in rows}
    return {feature: [_context(rng, text, place) for place in range(5)] for feature in features}


def _context(rng: random.Random, text: str | None, place: int) -> dict[str, object]:
    words = [rng.choice(WORDS) for _ in range(25)]
    if text is not None:
        words[12] = text
    pieces: list[list[object]] = []
    for at, word in enumerate(words):
        near = 9.0 - place if at == 12 else (3.0 if rng.random() < 0.08 else 0.0)
        pieces += [[word, near], [" ", 0.0]]
    return {
        "document": "00ab12cd34ef5678",
        "value": 9.0 - place,
        "before": " ".join(words[:12]),
        "peak": words[12],
        "after": " ".join(words[13:]),
        "pieces": pieces,
        "cut": [True, place % 2 == 0],
    }
