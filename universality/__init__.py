"""Which features of two dictionaries are one: probes, signatures, atlas, matches, nulls.

Names are imported when first used: this room pulls in torch, scipy and faiss, and a process that
only wants one of them should not pay for the others.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.universality.atlas import Atlas, Candidates
    from isogloss.universality.cautions import Caution
    from isogloss.universality.contexts import Context, contexts
    from isogloss.universality.correlation import Moments, pair_statistics
    from isogloss.universality.encode import encode_probe
    from isogloss.universality.grid import Grid, word_segments
    from isogloss.universality.match import Match, MatchSettings, match
    from isogloss.universality.nearest import Hit, nearest
    from isogloss.universality.probe import Probe, build_probe, segment_rows
    from isogloss.universality.probed import ProbedDictionary, load_probed
    from isogloss.universality.signatures import Sketch, signatures, sketch

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
    "segment_rows",
    "signatures",
    "sketch",
    "word_segments",
]

_ROOM = "isogloss.universality"
_HOMES = {
    "Atlas": "atlas",
    "Candidates": "atlas",
    "Caution": "cautions",
    "Context": "contexts",
    "Grid": "grid",
    "Hit": "nearest",
    "Match": "match",
    "MatchSettings": "match",
    "Moments": "correlation",
    "Probe": "probe",
    "ProbedDictionary": "probed",
    "Sketch": "signatures",
    "build_probe": "probe",
    "contexts": "contexts",
    "encode_probe": "encode",
    "load_probed": "probed",
    "match": "match",
    "nearest": "nearest",
    "pair_statistics": "correlation",
    "segment_rows": "probe",
    "signatures": "signatures",
    "sketch": "signatures",
    "word_segments": "grid",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {_ROOM!r} has no attribute {name!r}; public: {__all__}")
    return getattr(import_module(f"{_ROOM}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Room(ModuleType):
    """This package, in which ``match`` is always the function and never the file it lives in.

    Importing ``match.py`` makes the import system bind the module to the package under its name;
    without this, ``from isogloss.universality import match`` would depend on what ran before.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
