"""Find which features of two dictionaries are one: probes, signatures, atlas, matches, nulls.

Names are imported when first used: this room needs torch, scipy and faiss, and a process that only
wants one of them should not load the others.
"""

from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.universality.atlas.atlas import Atlas, Candidates
    from isogloss.universality.atlas.nearest import nearest
    from isogloss.universality.atlas.neighbour import Neighbour
    from isogloss.universality.atlas.profile import nearest_to_profile
    from isogloss.universality.atlas.signatures import Sketch, signatures, sketch
    from isogloss.universality.codes.contexts import Context, contexts
    from isogloss.universality.codes.encode import encode_probe
    from isogloss.universality.codes.foreign import write_foreign_codes
    from isogloss.universality.codes.probed import ProbedDictionary, load_probed
    from isogloss.universality.correlation.moments import Moments
    from isogloss.universality.correlation.pair_statistics import pair_statistics
    from isogloss.universality.matching.cautions import Caution, foreign_codes, shared_ancestry
    from isogloss.universality.matching.directions import Directions
    from isogloss.universality.matching.match import match
    from isogloss.universality.matching.pairs import Pairs
    from isogloss.universality.matching.references import Reference, Role, check_references
    from isogloss.universality.matching.report_data import report_data
    from isogloss.universality.matching.result import Match
    from isogloss.universality.matching.settings import MatchSettings
    from isogloss.universality.matching.shared_start import shared_init
    from isogloss.universality.matching.summary import summary_text
    from isogloss.universality.nulls.labels import LABELS
    from isogloss.universality.probe.build import build_probe
    from isogloss.universality.probe.grid import Grid, word_segments
    from isogloss.universality.probe.probe import Probe
    from isogloss.universality.probe.rows import segment_rows
    from isogloss.universality.probe.steps import step_to_compare

__all__ = [
    "LABELS",
    "Atlas",
    "Candidates",
    "Caution",
    "Context",
    "Directions",
    "Grid",
    "Match",
    "MatchSettings",
    "Moments",
    "Neighbour",
    "Pairs",
    "Probe",
    "ProbedDictionary",
    "Reference",
    "Role",
    "Sketch",
    "build_probe",
    "check_references",
    "contexts",
    "encode_probe",
    "foreign_codes",
    "load_probed",
    "match",
    "nearest",
    "nearest_to_profile",
    "pair_statistics",
    "report_data",
    "segment_rows",
    "shared_ancestry",
    "shared_init",
    "signatures",
    "sketch",
    "step_to_compare",
    "summary_text",
    "word_segments",
    "write_foreign_codes",
]

_ROOM = "isogloss.universality"
_MODULE_OF = {
    "LABELS": "nulls.labels",
    "Atlas": "atlas.atlas",
    "Candidates": "atlas.atlas",
    "Caution": "matching.cautions",
    "Context": "codes.contexts",
    "Directions": "matching.directions",
    "Grid": "probe.grid",
    "Match": "matching.result",
    "MatchSettings": "matching.settings",
    "Moments": "correlation.moments",
    "Neighbour": "atlas.neighbour",
    "Pairs": "matching.pairs",
    "Probe": "probe.probe",
    "ProbedDictionary": "codes.probed",
    "Reference": "matching.references",
    "Role": "matching.references",
    "Sketch": "atlas.signatures",
    "build_probe": "probe.build",
    "check_references": "matching.references",
    "contexts": "codes.contexts",
    "encode_probe": "codes.encode",
    "foreign_codes": "matching.cautions",
    "load_probed": "codes.probed",
    "match": "matching.match",
    "nearest": "atlas.nearest",
    "nearest_to_profile": "atlas.profile",
    "pair_statistics": "correlation.pair_statistics",
    "report_data": "matching.report_data",
    "segment_rows": "probe.rows",
    "shared_ancestry": "matching.cautions",
    "shared_init": "matching.shared_start",
    "signatures": "atlas.signatures",
    "sketch": "atlas.signatures",
    "step_to_compare": "probe.steps",
    "summary_text": "matching.summary",
    "word_segments": "probe.grid",
    "write_foreign_codes": "codes.foreign",
}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {_ROOM!r} has no attribute {name!r}; public: {__all__}")
    return load_name(f"{_ROOM}.{module}", name)


def __dir__() -> list[str]:
    return sorted(__all__)
