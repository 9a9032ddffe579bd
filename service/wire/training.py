"""What a request to train asks for: sources and settings, in today's form or the one before.

Before several kinds, the settings of one stood beside those that every kind has; before several
sources, the request named one recording and one site.
"""

from collections.abc import Mapping

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.values.arguments import Setting
from isogloss.service.values.job_specs import BesideSpec
from isogloss.service.values.results import SiteRef
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import from_name
from isogloss.service.wire.scalars import from_struct, to_struct
from isogloss.service.wire.settings import fill, set_fields

OF_A_KIND = frozenset({"features", "k", "aux_k"})
"""Fields of a TrainConfig that are settings of its kind."""


def to_config(
    settings: Mapping[str, object],
    given: Mapping[str, Setting],
    more: Mapping[str, Setting],
    leave_out: Mapping[str, object] | None = None,
    init: Mapping[str, object] | None = None,
) -> pb.TrainConfig:
    """Return what to train with, as a message.

    Args:
        settings: of the kind and the wiring.
        given: fields of the message; None leaves one unset.
        more: further ones.
        leave_out: which rows are not trained on; None: the default.
        init: where the weights start; None: the default.

    Returns:
        The message, of which the server knows the rest.

    Raises:
        InvalidInput: there is no such field, it holds another type, it is given twice, or it is a
            setting of the kind.
    """
    found = {*settings, *(name for name, value in given.items() if value is not None)}
    if twice := sorted(found & more.keys()):
        raise InvalidInput(f"settings {', '.join(twice)} are given twice: leave them out of more")
    if misplaced := sorted((OF_A_KIND | {"settings"}) & more.keys()):
        raise InvalidInput(
            f"more has {', '.join(misplaced)}, which the kind decides about: pass settings instead"
        )
    made = pb.TrainConfig(settings=to_struct(settings))
    if leave_out is not None:
        made.leave_out.CopyFrom(to_struct(leave_out))
    if init is not None:
        made.init.CopyFrom(to_struct(init))
    return fill(fill(made, given), more)


def asked_sources(request: pb.TrainDictionaryRequest) -> tuple[SiteRef, ...]:
    """Return the sites to train on.

    Args:
        request: as it came.

    Returns:
        At least one.

    Raises:
        InvalidInput: there is none, or both forms are used.
        InvalidName: a recording's name is malformed.
    """
    single = pb.Source(recording=request.recording, site=request.site)
    if not request.sources:
        return (from_message(single, SiteRef),)
    if request.recording or request.site:
        raise InvalidInput(
            f"sources has {len(request.sources)} sites, and recording is {request.recording!r} "
            f"with site {request.site!r} beside it: leave recording and site out"
        )
    return tuple(from_message(source, SiteRef) for source in request.sources)


def asked_beside(request: pb.TrainDictionaryRequest) -> tuple[BesideSpec, ...]:
    """Return the further dictionaries to train from the same read; errors as of their configs.

    Raises:
        InvalidInput: a setting of a kind is given in both forms.
        InvalidName: an id is malformed.
    """
    return tuple(
        BesideSpec(
            dictionary=from_name("dictionaries", f"dictionaries/{one.dictionary_id}"),
            config=asked_config(one.config),
        )
        for one in request.beside
    )


def asked_config(message: pb.TrainConfig) -> dict[str, object]:
    """Return the settings that are set, for ``isogloss.dictionaries.TrainConfig.from_dict``.

    Args:
        message: as it came.

    Returns:
        By name; those of the kind under ``settings``. The kind has not seen them yet.

    Raises:
        InvalidInput: a setting of the kind is given in both forms.
    """
    found = set_fields(message)
    settings = from_struct(message.settings)
    flat = {name: found.pop(name) for name in sorted(OF_A_KIND & found.keys())}
    if twice := sorted(flat.keys() & settings.keys()):
        raise InvalidInput(
            f"{', '.join(twice)} stands in settings and beside it "
            f"({', '.join(f'{name}={flat[name]}' for name in twice)}): leave one of the two out"
        )
    return {**found, "settings": {**flat, **settings}}


def asked_processes(request: pb.TrainDictionaryRequest) -> int:
    """Return how many processes are to train together; one where the request does not say."""
    return request.processes if request.HasField("processes") else 1
