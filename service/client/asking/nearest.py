"""Asking for the features that are most like a feature, a text, a direction or codes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.proto.v1.types_pb2 import Tensor
from isogloss.service.client.asking.live_model import check_model, dictionaries_of, rows_of
from isogloss.service.transport.call import Call, ask, reading
from isogloss.service.values.results import Hit, Hits, RecordingInfo, Skipped
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import from_name, to_name
from isogloss.service.wire.scalars import to_dtype


def of_text(
    text: str | Sequence[int], model: object, among: Sequence[str] | None, count: int
) -> Call[Hits]:
    """Ask which features fire on a text, which a live model runs over here."""
    live = check_model(model)
    fitting, skipped = yield from dictionaries_of(live, among)
    if not fitting:
        raise _none_fits(skipped)
    rows = rows_of(live, text, sorted({info.site for info in fitting}))
    sites = sorted({(info.recording, info.site) for info in fitting})
    request = _request([info.id for info in fitting], count)
    for recording, site in sites:
        request.rows.add(
            recording=to_name("recordings", recording), site=site, rows=to_tensor(rows[site])
        )
    return (yield from answered(request, skipped))


def of_direction(
    direction: NDArray[np.generic],
    space: object,
    site: str,
    among: Sequence[str] | None,
    count: int,
) -> Call[Hits]:
    """Ask which features write a direction in the activations of a model."""
    row = np.asarray(direction, np.float32)
    if row.ndim != 1 or not row.size:
        raise InvalidInput(
            f"direction is {list(row.shape)}, wanted [width]: one number a dimension"
        )
    if isinstance(space, str | RecordingInfo):
        recordings = [space if isinstance(space, str) else space.id]
        names, skipped = among, list[Skipped]()
    else:
        fitting, skipped = yield from dictionaries_of(check_model(space), among)
        fitting = [info for info in fitting if info.width == row.size and site in ("", info.site)]
        if not fitting:
            raise _none_fits(skipped)
        recordings = sorted({info.recording for info in fitting})
        names = [info.id for info in fitting]
    found: list[Hits] = []
    for recording in recordings:
        request = _request(names, count)
        request.direction.recording = to_name("recordings", recording)
        request.direction.site = site
        request.direction.vector.CopyFrom(to_tensor(row[None]))
        found.append((yield from answered(request, ())))
    hits = sorted((hit for some in found for hit in some), key=lambda hit: -hit.cosine)
    has_hits = {hit.dictionary for hit in hits}
    left_out = {one.dictionary: one for some in found for one in some.skipped}
    skipped += [one for name, one in left_out.items() if name not in has_hits]
    return Hits(hits, skipped=skipped)


def of_codes(
    codes: NDArray[np.generic], probe: str | None, among: Sequence[str] | None, count: int
) -> Call[Hits]:
    """Ask which features fire like given codes on a probe."""
    row = np.asarray(codes, np.float32)
    if row.ndim != 1 or not row.size:
        raise InvalidInput(f"codes are {list(row.shape)}, wanted [segments]: one a segment")
    if probe is None:
        raise InvalidInput("codes are activations on the segments of a probe: name it with probe=")
    request = _request(among, count)
    request.probe = to_name("probes", probe)
    request.codes.CopyFrom(to_tensor(row[None]))
    return (yield from answered(request, ()))


def answered(request: pb.NearestFeaturesRequest, skipped: Sequence[Skipped]) -> Call[Hits]:
    """Ask, and return the hits with what was left out before and there."""
    answer = yield from ask(request, pb.NearestFeaturesResponse)
    return reading(lambda message: _hits(message, skipped), answer)


def _hits(message: pb.NearestFeaturesResponse, skipped: Sequence[Skipped]) -> Hits:
    return Hits(
        [from_message(hit, Hit) for hit in message.hits],
        skipped=[*skipped, *(from_message(one, Skipped) for one in message.skipped)],
        probe=from_name("probes", message.probe) if message.probe else "",
    )


def _request(among: Sequence[str] | None, count: int) -> pb.NearestFeaturesRequest:
    names = [to_name("dictionaries", name) for name in among or ()]
    return pb.NearestFeaturesRequest(among=names, count=count)


def to_tensor(rows: NDArray[np.float32]) -> Tensor:
    """Write rows ``[rows, width]`` into a message."""
    return Tensor(
        dtype=to_dtype("float32"),
        rows=rows.shape[0],
        width=rows.shape[1],
        data=np.ascontiguousarray(rows, "<f4").tobytes(),
    )


def _none_fits(skipped: Sequence[Skipped]) -> InvalidInput:
    reasons = "; ".join(f"{one.dictionary}: {one.why}" for one in skipped)
    return InvalidInput(
        f"no dictionary of this model fits: {reasons or 'there is none, train one'}"
    )
