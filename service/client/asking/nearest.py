"""Asking for the features that are most like a feature, a text, a direction or codes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isogloss import models
from isogloss.errors import InvalidInput, IsoglossError, UnknownSite
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.proto.v1.types_pb2 import Tensor
from isogloss.service.client.asking.live_model import check_model, dictionaries_of, rows_of
from isogloss.service.client.held.array_like import ArrayLike
from isogloss.service.transport.call import Call, ask, reading
from isogloss.service.values.arguments import check_text
from isogloss.service.values.results import DictionaryInfo, Hit, Hits, RecordingInfo, Skipped
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import from_name, to_name
from isogloss.service.wire.scalars import to_dtype

if TYPE_CHECKING:
    from isogloss.models import LoadedModel


def of_text(
    text: str | Sequence[int], model: object, among: Sequence[str] | None, count: int
) -> Call[Hits]:
    """Ask which features fire on a text, which a live model runs over here."""
    live = check_model(model)
    found, skipped = yield from dictionaries_of(live, among)
    missing = {site: _missing(live, site) for site in {info.site for info in found}}
    fitting = _fitting(found, skipped, lambda info: missing[info.site])
    rows = rows_of(live, text, sorted({info.site for info in fitting}))
    sites = sorted({(info.recording, info.site) for info in fitting})
    request = _request([info.id for info in fitting], count)
    for recording, site in sites:
        request.rows.add(
            recording=to_name("recordings", recording), site=site, rows=to_tensor(rows[site])
        )
    return (yield from answered(request, skipped))


def of_direction(
    direction: object,
    space: object,
    site: str,
    among: Sequence[str] | None,
    count: int,
) -> Call[Hits]:
    """Ask which features write a direction in the activations of a model."""
    check_text("site", site, "layers.3")
    row = _row(direction, "direction", "[width]: one number a dimension")
    if isinstance(space, str | RecordingInfo):
        recordings = [space if isinstance(space, str) else space.id]
        names, skipped = among, list[Skipped]()
    else:
        live = check_model(space)
        known, skipped = yield from dictionaries_of(live, among)
        fitting = _fitting(known, skipped, lambda info: _other_space(live, info, site, row.size))
        recordings = sorted({info.recording for info in fitting})
        names, site = [info.id for info in fitting], ""  # these are of the site
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
    codes: object, probe: str | None, among: Sequence[str] | None, count: int
) -> Call[Hits]:
    """Ask which features fire like given codes on a probe."""
    row = _row(codes, "codes", "[segments]: one a segment")
    if probe is None:
        raise InvalidInput("codes are activations on the segments of a probe: name it with probe=")
    request = _request(among, count)
    request.probe = to_name("probes", probe)
    request.codes.CopyFrom(to_tensor(row[None]))
    return (yield from answered(request, ()))


def _row(given: object, name: str, wanted: str) -> NDArray[np.float32]:
    """Return numbers as one row.

    Raises:
        InvalidInput: they are no row of numbers, or a tensor that wants gradients.
    """
    try:
        found = ArrayLike.of(name, given).array if hasattr(given, "device") else np.asarray(given)
    except (ValueError, TypeError) as error:
        if isinstance(error, IsoglossError):
            raise
        said = f"{name} is {type(given).__name__}, wanted {wanted} ({error})"
        raise InvalidInput(said) from error
    is_numbers = found.dtype.kind in "fiub" or found.dtype.name == "bfloat16"
    if not is_numbers or found.ndim != 1 or not found.size:
        seen = list(found.shape) if is_numbers else found.dtype
        raise InvalidInput(f"{name} is {seen}, wanted {wanted}")
    return found.astype(np.float32)


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


def _fitting(
    found: Sequence[DictionaryInfo],
    skipped: list[Skipped],
    why_not: Callable[[DictionaryInfo], str],
) -> list[DictionaryInfo]:
    """Return the dictionaries that fit; add the others to those left out, with the reason.

    Raises:
        InvalidInput: none fits.
    """
    reasons = {info.id: why_not(info) for info in found}
    skipped += [Skipped(dictionary=name, why=why) for name, why in reasons.items() if why]
    fitting = [info for info in found if not reasons[info.id]]
    if not fitting:
        said = "; ".join(f"{one.dictionary}: {one.why}" for one in skipped)
        raise InvalidInput(
            f"no dictionary of this model fits: {said or 'there is none, train one'}"
        )
    return fitting


def _missing(live: "LoadedModel", site: str) -> str:
    """Return why a model has no rows of a site; empty where it has."""
    try:
        models.find_sites(models.unwrapped(live), [site])
    except UnknownSite as error:
        return f"this model lacks the site that it reads ({error})"
    return ""


def _other_space(live: "LoadedModel", info: DictionaryInfo, site: str, width: int) -> str:
    """Return why a direction is none of a dictionary's; empty where it is one."""
    if site and not models.is_site_of(models.unwrapped(live), info.site, site):
        return f"it was trained on site {info.site!r}, not {site!r}"
    if info.width != width:
        return f"its rows have width {info.width}, the direction {width}"
    return ""
