"""Dictionaries, probes, features and matches: where they differ from their messages."""

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.proto.v1 import dictionaries_pb2
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureContext,
    FeatureInfo,
    FeatureRef,
    Hit,
    MatchInfo,
    PairInfo,
    ProbeInfo,
    SiteRef,
    Skipped,
    SourceInfo,
)
from isogloss.service.wire.convert import Joined, declare, from_message, to_message
from isogloss.service.wire.names import from_feature_name, to_feature_name
from isogloss.store import CheckedCodes, check_codes

_PART_ENTRIES = 1 << 17
_PART_SEGMENTS = 1 << 16

_MADE = {"id": "name", "created": "create_time"}


def _active(found: DictionaryInfo) -> int:
    """Return the number of features that may fire on one row; 0 where the kind sets no bound."""
    k = found.settings.get("k")
    return k if isinstance(k, int) else 0


def _read_sources(message: dictionaries_pb2.Dictionary) -> tuple[tuple[SourceInfo, ...]]:
    """Return the sources; before there were several, one stood in fields of its own."""
    single = dictionaries_pb2.Source(
        recording=message.recording,
        recording_uid=message.recording_uid,
        site=message.site,
        revision=message.revision,
    )
    found = message.sources or [single]
    return (tuple(from_message(source, SourceInfo) for source in found),)


def _first(found: DictionaryInfo) -> dictionaries_pb2.Source:
    return to_message(found.sources[0], dictionaries_pb2.Source)


def _write_steps(steps: object) -> object:
    return steps


def _read_steps(steps: object) -> object:
    """Return steps as they came; servers that know none say nothing of them."""
    return tuple(cast("Iterable[int]", steps)) or (0,)


declare(
    SourceInfo,
    dictionaries_pb2.Source,
    resources={"recording": "recordings"},
    converted={"steps": (_write_steps, _read_steps)},
)
declare(
    SiteRef,
    dictionaries_pb2.Source,
    resources={"recording": "recordings"},
    left_out=("recording_uid", "revision", "steps"),
)
declare(
    DictionaryInfo,
    dictionaries_pb2.Dictionary,
    renamed=_MADE,
    resources={"id": "dictionaries"},
    joined=[
        Joined(
            "sources",
            ("sources",),
            lambda found: [to_message(s, dictionaries_pb2.Source) for s in found.sources],
            _read_sources,
        ),
        Joined("recording", (), lambda found: _first(found).recording),
        Joined("recording_uid", (), lambda found: _first(found).recording_uid),
        Joined("site", (), lambda found: _first(found).site),
        Joined("revision", (), lambda found: _first(found).revision),
        Joined("k", (), _active),
    ],
)
declare(
    ProbeInfo,
    pb.Probe,
    renamed=_MADE,
    resources={"id": "probes", "recordings": "recordings", "dictionaries": "dictionaries"},
)
declare(
    MatchInfo,
    pb.Match,
    renamed={**_MADE, "text": "summary", "details": "result_json"},
    resources={"id": "matches", "a": "dictionaries", "b": "dictionaries", "probe": "probes"},
)
declare(
    PairInfo,
    pb.Pair,
    joined=[Joined("replicated", (), lambda found: found.replicated)],
)
declare(FeatureContext, pb.Context, renamed={"value": "activation"})


def _name(found: Hit | FeatureInfo) -> str:
    return to_feature_name(FeatureRef(dictionary=found.dictionary, feature=found.feature))


def _ref(name: str) -> tuple[str, int]:
    ref = from_feature_name(name)
    return ref.dictionary, ref.feature


declare(
    Hit,
    pb.Hit,
    joined=[Joined("feature", ("dictionary", "feature"), _name, lambda m: _ref(m.feature))],
)
declare(
    Skipped,
    pb.Skipped,
    renamed={"why": "reason"},
    resources={"dictionary": "dictionaries"},
)
declare(
    FeatureInfo,
    pb.Feature,
    resources={"probe": "probes"},
    joined=[Joined("name", ("dictionary", "feature"), _name, lambda m: _ref(m.name))],
)


def to_parts(probe: str, codes: CheckedCodes) -> Iterator[pb.UploadCodesRequest]:
    """Cut codes into messages of about a megabyte.

    Args:
        probe: resource name of the probe.
        codes: the codes of all its segments.
    """
    upload, start = codes.digest, 0
    while start < codes.segments:
        full = int(codes.codes.indptr[start]) + _PART_ENTRIES
        stop = int(np.searchsorted(codes.codes.indptr, full, side="right")) - 1
        stop = min(max(stop, start + 1), start + _PART_SEGMENTS, codes.segments)
        part = codes.part(start, stop)
        yield pb.UploadCodesRequest(
            probe=probe,
            upload=upload,
            features=codes.features,
            first_segment=start,
            counts=np.diff(part.codes.indptr).astype("<u4").tobytes(),
            indices=part.codes.indices.astype("<i4").tobytes(),
            values=part.codes.values.astype("<f4").tobytes(),
            present=b"" if part.present.all() else part.present.astype("u1").tobytes(),
        )
        start = stop


def from_part(request: pb.UploadCodesRequest, segments: int) -> CheckedCodes:
    """Return the codes of a part, checked like those that a caller gives.

    Args:
        request: as it came.
        segments: segments of the probe.

    Raises:
        ShapeError: the arrays of the part do not fit one another, or the probe.
        InvalidInput: see :func:`isogloss.store.check_codes`.
    """
    counts = _numbers("counts", request.counts, "<u4").astype(np.int64)
    first = request.first_segment
    if not 0 <= first < first + len(counts) <= segments:
        raise ShapeError(
            f"a part of {len(counts)} segments from {first} on does not lie in the probe's "
            f"[0, {segments}): send at least one, and none behind the last"
        )
    features = _numbers("indices", request.indices, "<i4")
    values = _numbers("values", request.values, "<f4")
    present = _numbers("present", request.present, "u1") if request.present else None
    entries = int(counts.sum())
    if not entries == len(features) == len(values):
        raise ShapeError(
            f"counts say {entries} entries, and there are {len(features)} indices and "
            f"{len(values)} values: send as many of each"
        )
    columns = {
        "segment": np.repeat(np.arange(len(counts)), counts),
        "feature": features,
        "value": values,
    }
    return check_codes(
        columns,
        segments=len(counts),
        features=request.features,
        present=None if present is None else present.astype(np.bool_),
    )


def _numbers(name: str, data: bytes, dtype: str) -> NDArray[np.generic]:
    size = np.dtype(dtype).itemsize
    if len(data) % size:
        raise ShapeError(f"{name} has {len(data)} bytes, wanted a multiple of {size}")
    return np.frombuffer(data, dtype)
