"""Patterns, queries, keys, values and z beside what the model itself computes."""

import sys
from pathlib import Path

import torch
from house_figures.figure import Figure

from isogloss.models import capture
from isogloss.models.elements.heads import attentions

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.models.elements.families import FAMILIES, IDS, family, own_patterns

_GIVES_NONE = ("bloom",)


def patterns_exact() -> Figure:
    """Compare in a tiny random model of each family: patterns bit for bit, z with its mixture."""
    differ: list[str] = []
    compared = 0
    for name in FAMILIES:
        model = family(name)
        heads = attentions(model)
        sites = [f"{one.path}.heads.{part}" for one in heads for part in ("v", "z", "pattern")]
        with torch.no_grad(), capture(model, sites) as seen:
            model(IDS)
        own = [None] * len(heads) if name in _GIVES_NONE else own_patterns(model)
        for one, theirs in zip(heads, own, strict=True):
            v, z, pattern = (seen[f"{one.path}.heads.{part}"] for part in ("v", "z", "pattern"))
            v = v.repeat_interleave(one.count // one.key_count, 2)
            same = torch.allclose(z, torch.einsum("bhqk,bkhd->bqhd", pattern, v), atol=1e-6)
            same &= theirs is None or torch.equal(pattern, theirs)
            compared += 1
            differ += [] if same else [f"{name} {one.path}"]
    return Figure(
        figure="patterns_exact",
        value=len(differ),
        bar=0,
        unit="attention modules whose patterns, values or z differ from the model's own",
        peers={
            "families": list(FAMILIES),
            "compared": compared,
            "differ": differ,
            "other libraries": "TransformerLens and nnsight: make test-peers",
        },
    )
