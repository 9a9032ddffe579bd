"""Which features of two dictionaries are one: probes, signatures, atlas, matches, nulls.

Names are imported when first used: this room pulls in torch, scipy and faiss, and a process that
only wants one of them should not pay for the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.universality.atlas import Atlas, Candidates
    from isogloss.universality.cautions import Caution, shared_ancestry, shared_init
    from isogloss.universality.context import Context, contexts
    from isogloss.universality.correlation import Moments, pair_statistics
    from isogloss.universality.countsketch import Sketch, signatures, sketch
    from isogloss.universality.encode import encode_probe
    from isogloss.universality.grid import Grid, word_segments
    from isogloss.universality.matching import Match, MatchSettings, match
    from isogloss.universality.neighbours import Hit, nearest
    from isogloss.universality.pairs import Pairs
    from isogloss.universality.probe import Probe, build_probe, segment_rows
    from isogloss.universality.probed import ProbedDictionary, load_probed
    from isogloss.universality.summary import report_data

__all__ = [
    "Atlas",
    "Candidates",
    "Caution",
    "Context",
    "Grid",
    "Hit",
    "Match",
    "MatchSettings",
    "Moments",
    "Pairs",
    "Probe",
    "ProbedDictionary",
    "Sketch",
    "build_probe",
    "contexts",
    "encode_probe",
    "load_probed",
    "match",
    "nearest",
    "pair_statistics",
    "report_data",
    "segment_rows",
    "shared_ancestry",
    "shared_init",
    "signatures",
    "sketch",
    "word_segments",
]

_ROOM = "isogloss.universality"
_HOMES = {
    "Atlas": "atlas",
    "Candidates": "atlas",
    "Caution": "cautions",
    "Context": "context",
    "Grid": "grid",
    "Hit": "neighbours",
    "Match": "matching",
    "MatchSettings": "matching",
    "Moments": "correlation",
    "Pairs": "pairs",
    "Probe": "probe",
    "ProbedDictionary": "probed",
    "Sketch": "countsketch",
    "build_probe": "probe",
    "contexts": "context",
    "encode_probe": "encode",
    "load_probed": "probed",
    "match": "matching",
    "nearest": "neighbours",
    "pair_statistics": "correlation",
    "report_data": "summary",
    "segment_rows": "probe",
    "shared_ancestry": "cautions",
    "shared_init": "cautions",
    "signatures": "countsketch",
    "sketch": "countsketch",
    "word_segments": "grid",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {_ROOM!r} has no attribute {name!r}; public: {__all__}")
    return getattr(import_module(f"{_ROOM}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
