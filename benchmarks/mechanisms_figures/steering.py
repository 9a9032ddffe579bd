"""Whether steering a feature raises what follows where it fires, on a real causal model."""

import random
import tempfile
from pathlib import Path

from house_figures.figure import Figure

import isogloss
from isogloss.dictionaries import DictionaryModule, SteeredFeature, steered_followers
from isogloss.models import (
    LoadedModel,
    TextDocument,
    load_model,
    passages,
    standard_library_texts,
    token_windows,
)

MODEL, SITE = "packaged:smollm2-135m", "model.layers.24"
_BAR, _LEVEL = 0.8, 0.05
_FEATURES, _K, _DOCUMENTS, _WORDS = 2048, 32, 1500, 96  # six CPU minutes of recording
_HELD_OUT, _STEERED_IN = 1200, 8
_STEERED, _RANDOM = 50, 100
_DRAW = 1  # site, strength and the rule of followers were chosen on the features of draw 0


def steered(
    model: LoadedModel, site: str, *, documents: int, features: int, k: int
) -> list[SteeredFeature]:
    """Train a dictionary on some passages, and steer its features on others.

    Args:
        model: a causal language model.
        site: of the dictionary.
        documents: passages to train on.
        features: of the dictionary.
        k: features that fire on a row.
    """
    found = passages(standard_library_texts(), words=_WORDS)
    groups = sorted({one.group for one in found})
    random.Random(0).shuffle(groups)
    held = set(groups[: len(groups) // 3])  # whole sources: no passage of one stands on both sides
    seen = [one for one in found if one.group not in held][:documents]
    others = [one for one in found if one.group in held]
    with tempfile.TemporaryDirectory() as folder:
        dictionary = _trained(model, seen, site, Path(folder), features=features, k=k)
    spread = seen[:: len(seen) // _STEERED_IN]  # of many sources
    windows = [
        token_windows(model, [one.text for one in some], tokens=48, most=most)
        for some, most in ((others, _HELD_OUT), (spread, _STEERED_IN))
    ]
    return steered_followers(
        dictionary, model, *windows, count=_STEERED, random=_RANDOM, seed=_DRAW
    )


def _trained(
    model: LoadedModel,
    documents: list[TextDocument],
    site: str,
    folder: Path,
    *,
    features: int,
    k: int,
) -> DictionaryModule:
    with isogloss.connect(folder / "store") as client:
        client.record_documents(model, documents, sites=[site], recording="texts")
        client.train("texts", site=site, features=features, k=k, dictionary="steered").result()
        return client.dictionary("steered")


def steer_effect() -> Figure:
    """Count the features whose followers rise more than under 100 random ones, p < .05."""
    model = load_model(MODEL, causal=True)
    found = steered(model, SITE, documents=_DOCUMENTS, features=_FEATURES, k=_K)
    raised = sum(one.p < _LEVEL for one in found)
    return Figure(
        figure="steer_effect",
        value=raised / _STEERED,
        bar=_BAR,
        at_most=False,
        unit=f"of {_STEERED} features beyond the token, those whose followers rise, p < {_LEVEL}",
        peers={
            "site": SITE,
            "features beyond the token that were steered": len(found),
            "median p": sorted(one.p for one in found)[len(found) // 2],
            "by chance": _LEVEL,
        },
    )
