"""Recordings, revisions, documents and statistics: where they differ from their messages."""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InternalError, InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2 as types
from isogloss.service.values.results import RecordingInfo
from isogloss.service.wire.convert import Joined, declare, from_message, to_message
from isogloss.service.wire.scalars import from_dtype, from_time, to_dtype, to_time
from isogloss.store import (
    Document,
    NormSpread,
    RecordingSpec,
    Revision,
    SiteSpec,
    SiteStatistics,
    StepInfo,
    readable_text,
    step_column,
    step_runs,
)


def _lanes(revision: Revision) -> list[types.LaneRows]:
    return [types.LaneRows(lane=lane, rows=rows) for lane, rows in revision.lanes]


declare(
    Revision,
    types.Revision,
    renamed={"recording": "recording_uid"},
    joined=[
        Joined("id", (), lambda revision: revision.id),
        Joined(
            "lanes", ("lanes",), _lanes, lambda m: (tuple((it.lane, it.rows) for it in m.lanes),)
        ),
    ],
)
declare(
    SiteSpec,
    pb.Site,
    converted={
        "dtype": (
            lambda name: to_dtype(str(name)),
            lambda number: from_dtype(cast("types.Dtype.ValueType", number)),
        )
    },
)
declare(
    RecordingSpec,
    pb.Recording,
    renamed={"recording": "name", "nonfinite": "reject_nonfinite"},
    resources={"recording": "recordings"},
    converted={
        "nonfinite": (
            lambda word: word == "reject",
            lambda is_set: "reject" if is_set else "count",
        ),
    },
    # of a recording that exists; RecordingInfo has them
    left_out=("uid", "etag", "revision", "rows", "create_time", "has_steps"),
)


def _floats(found: object) -> object:
    return np.array(cast("Iterable[float]", found), np.float64)


def _flat(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(array).reshape(-1)


def _by_bin(values: Sequence[float], bins: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    if len(values) % max(1, bins) or bool(len(values)) != bool(bins):
        raise InvalidInput(f"{len(values)} numbers of a norm spread are not of {bins} bins")
    return np.array(values, dtype).reshape(len(values) // bins if bins else 9, bins)


def _class_means(message: pb.NormSpread) -> NDArray[np.float64]:
    classes = len(message.class_m2)
    if len(message.class_means) % max(1, classes):
        raise InvalidInput(
            f"{len(message.class_means)} numbers are not the means of {classes} classes"
        )
    width = len(message.class_means) // classes if classes else 0
    return np.array(message.class_means, np.float64).reshape(classes, width)


declare(
    NormSpread,
    pb.NormSpread,
    converted={
        "bins": (lambda bins: bins, lambda found: np.array(cast("Iterable[int]", found), np.int32)),
        "class_m2": (lambda m2: m2, _floats),
    },
    joined=[
        Joined(
            "counts",
            ("counts",),
            lambda spread: _flat(spread.counts),
            lambda m: (_by_bin(m.counts, len(m.bins), np.int64),),
        ),
        Joined(
            "squares",
            ("squares",),
            lambda spread: _flat(spread.squares),
            lambda m: (_by_bin(m.squares, len(m.bins), np.float64),),
        ),
        Joined(
            "class_means",
            ("class_means",),
            lambda spread: _flat(spread.class_means),
            lambda m: (_class_means(m),),
        ),
    ],
)
declare(
    SiteStatistics,
    pb.SiteStatistics,
    converted={"mean": (lambda mean: mean, _floats), "m2": (lambda m2: m2, _floats)},
)

declare(StepInfo, pb.Step)


def to_recording(info: RecordingInfo) -> pb.Recording:
    """Return a recording that exists as a message: its description, and how it stands."""
    message = to_message(info.spec, pb.Recording)
    message.uid = info.uid
    message.etag = info.etag
    message.revision.CopyFrom(to_message(info.revision, types.Revision))
    message.rows = info.rows
    message.create_time.CopyFrom(to_time(info.created))
    message.has_steps = info.has_steps
    return message


def from_recording(message: pb.Recording) -> RecordingInfo:
    """Read a recording that exists from a message."""
    return RecordingInfo(
        uid=message.uid,
        etag=message.etag,
        spec=from_message(message, RecordingSpec),
        revision=from_message(message.revision, Revision),
        created=from_time(message.create_time),
        has_steps=message.has_steps,
    )


def to_document(document: Document, *, with_text: bool) -> pb.Document:
    """Return a document as a message, by wish without its text."""
    text = document.text if with_text else None
    # an earlier release took groups that UTF-8 cannot hold
    return pb.Document(key=document.key, text=text, group=readable_text(document.group))


def to_step_runs(column: NDArray[np.generic]) -> list[pb.StepRun]:
    """Return a column of training steps as runs; none where all are 0."""
    runs = step_runs(column)
    if all(step == 0 for step, _ in runs):
        return []
    return [pb.StepRun(step=step, rows=rows) for step, rows in runs]


def from_step_runs(runs: Sequence[pb.StepRun], rows: int) -> NDArray[np.generic]:
    """Return the column of training steps that runs describe.

    Args:
        runs: the runs; none where all steps are 0.
        rows: how many rows there are.

    Returns:
        uint64 ``[rows]``.

    Raises:
        InternalError: the runs are of another number of rows.
    """
    if not runs:
        return step_column([(0, rows)])
    counted = sum(run.rows for run in runs)
    if counted != rows or min(run.rows for run in runs) < 1:
        raise InternalError(f"{len(runs)} steps of {counted} rows came for {rows} rows")
    return step_column([(run.step, run.rows) for run in runs])


def optional_revision(revision: Revision | None) -> types.Revision | None:
    """Return a revision as a message; None, which leaves the field unset, where none is pinned."""
    return None if revision is None else to_message(revision, types.Revision)
