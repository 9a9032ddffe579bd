"""Dictionaries: training, finding, using and deleting them."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
from google.longrunning.operations_pb2 import Operation

from isogloss.dictionaries import TokenEffects
from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.proto.v1 import universality_pb2
from isogloss.proto.v1.types_pb2 import Tensor
from isogloss.service.client.binding import awaiting, blocking, starting, starting_async
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.held.array_like import ArrayLike, RowsT
from isogloss.service.client.held.weights import dictionary
from isogloss.service.client.operations import Started, started
from isogloss.service.transport.call import Call, ask, collect, reading, then
from isogloss.service.values import ids
from isogloss.service.values.arguments import Setting, check_text, check_whole, named_steps
from isogloss.service.values.dictionary_bodies import UNTRAINED_RATE
from isogloss.service.values.results import DictionaryInfo, KindInfo, SiteRef
from isogloss.service.wire.messages import from_message, to_message
from isogloss.service.wire.names import from_name, to_name
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.service.wire.scalars import from_dtype, to_dtype
from isogloss.service.wire.training import asked_config, to_config

if TYPE_CHECKING:
    from isogloss.service.client.held.dictionary import HeldDictionary

CONTROLS = ("frozen_decoder", "frozen_encoder", "soft_frozen_decoder")
"""Names of the controls, as ``isogloss.dictionaries.CONTROLS``, which a thin client cannot load."""

_UNTRAINED: Mapping[str, Setting] = {"learning_rate": UNTRAINED_RATE, "epochs": 0.1}
"""A run whose steps are too small to change any weight; it sets running thresholds all the same."""


def train(
    recording: str,
    *,
    site: str,
    features: int,
    k: int | None = None,
    kind: str | None = None,
    settings: Mapping[str, object] | None = None,
    wiring: str | None = None,
    more_sources: Sequence[SiteRef] = (),
    leave_out: Mapping[str, object] | None = None,
    controls: Sequence[str] = (),
    init: "Mapping[str, object] | DictionaryInfo | str | None" = None,
    dictionary: str | None = None,
    epochs: float | None = None,
    seed: int | None = None,
    steps: Sequence[int] | None = None,
    more: Mapping[str, Setting] | None = None,
    processes: int | None = None,
    time_limit_s: float | None = None,
    request_id: str | None = None,
) -> Call[Started[DictionaryInfo]]:
    """Train a dictionary on a site, as a job.

    Args:
        recording: id of the recording.
        site: name of the site.
        features: number of features to learn.
        k: how many features may fire on one row, where the kind has it; None: its default.
        kind: name of the kind, one of :meth:`Client.kinds`; None: the server's default.
        settings: further settings of the kind and of the wiring, by name.
        wiring: which sites go in and come out, one of :meth:`Client.wirings`; None: the default.
        more_sources: sites that follow the first; of other recordings too, whose rows are joined.
        leave_out: rows not to train on, as :class:`isogloss.dictionaries.LeaveOut`; None: far ones.
        controls: controls to train beside it, such as ``frozen_decoder``; see its metrics.
        init: a dictionary to start from, or settings as :class:`isogloss.dictionaries.Init`.
        dictionary: id of the dictionary; None: one made of the arguments, equal for equal ones.
        epochs: passes over the training rows; None: the default.
        seed: seed of the initial weights and of the order of rows; None: the default.
        steps: training steps whose rows to train on, see :meth:`Client.steps`; None: the only one.
        more: values for other fields of :class:`isogloss.dictionaries.TrainConfig`, by name.
        processes: how many processes of the server's machine train together; None: one.
        time_limit_s: for how many seconds the job may run; None: as long as the server lets it.
        request_id: any text; a second call with the same one returns the first call's job.

    Returns:
        A handle on the job; its result is the dictionary.

    Raises:
        NotFound: there is no such recording, or no dictionary to start from.
        UnknownSite: the recording has no such site; the message lists the nearest names.
        InvalidInput: no such kind or wiring, or a setting or steps that do not fit.
        ResourceExhausted: it needs more memory than jobs may have, or too many of your jobs wait.
    """
    sources = (SiteRef(recording=recording, site=site), *more_sources)
    given = _given(kind, wiring, epochs, seed, steps, controls)
    of_kind, start = _of_kind(features, k, settings or {}), _start(init)
    config = to_config(of_kind, given, more or {}, leave_out, start)
    made = dictionary or ids.dictionary_id(sources, features, asked_config(config))
    return _trained(_request(made, sources, config, time_limit_s, request_id, processes))


def _given(
    kind: str | None,
    wiring: str | None,
    epochs: float | None,
    seed: int | None,
    steps: Sequence[int] | None,
    controls: Sequence[str],
) -> dict[str, Setting]:
    """Return what is not of a kind, by the names of a config."""
    given: dict[str, Setting] = {"kind": kind, "wiring": wiring, "epochs": epochs, "seed": seed}
    return given | {"steps": named_steps(steps) or None, "controls": tuple(controls) or None}


def _trained(request: pb.TrainDictionaryRequest) -> Call[Started[DictionaryInfo]]:
    return then(ask(request, Operation), started("dictionaries", get_dictionary))


def train_many(
    recording: str,
    *,
    site: str,
    runs: Sequence[Mapping[str, object]],
    more_sources: Sequence[SiteRef] = (),
    rows_seed: int | None = 0,
    processes: int | None = None,
    time_limit_s: float | None = None,
    request_id: str | None = None,
) -> Call[Started[list[DictionaryInfo]]]:
    """Train several dictionaries on a site from one read, as one job.

    Each gets the bits that it has when it is trained alone with the same ``rows_seed``. Runs that
    differ in rows of a step, holdout or rows left out are read one after the other.

    Args:
        recording: id of the recording.
        site: name of the site.
        runs: for each dictionary what differs, by name: ``features`` (always), ``k``, ``kind``,
            ``wiring``, ``epochs``, ``seed``, ``steps``, ``controls``, ``dictionary`` (its id),
            ``init``, further settings of kind and wiring in a mapping ``settings``, and any other
            field of :class:`isogloss.dictionaries.TrainConfig`.
        more_sources: sites that follow the first, for wirings that take several.
        rows_seed: seed of the order of the rows, the same for all, so that they share the read;
            None: each has the seed of its weights.
        processes: how many processes of the server's machine train together; None: one.
        time_limit_s: for how many seconds the job may run; None: as long as the server lets it.
        request_id: any text; a second call with the same one returns the first call's job.

    Returns:
        A handle on the job; its result are the dictionaries, in the order of the runs. Progress has
        the figures of each under its id, such as ``my-dictionary/fvu``.

    Raises:
        NotFound: there is no recording with that id.
        UnknownSite: the recording has no such site; the message lists the nearest names.
        InvalidInput: there are no runs; or a setting does not exist or does not fit.
        AlreadyExists: another job makes a dictionary of one of the ids.
        ResourceExhausted: it needs more memory than jobs may have, or too many of your jobs wait.
    """
    if not runs:
        raise InvalidInput("there are 0 runs; wanted the settings of at least one dictionary")
    sources = (SiteRef(recording=recording, site=site), *more_sources)
    (name, config), *beside = [_run(sources, run, rows_seed) for run in runs]
    request = _request(name, sources, config, time_limit_s, request_id, processes)
    request.beside.extend(
        pb.TrainedBeside(
            dictionary_id=from_name("dictionaries", to_name("dictionaries", one)), config=own
        )
        for one, own in beside
    )

    def fetch(first: str) -> Call[list[DictionaryInfo]]:
        found = [(yield from get_dictionary(first))]
        for one, _ in beside:
            found.append((yield from get_dictionary(one)))
        return found

    return then(ask(request, Operation), started("dictionaries", fetch))


def _run(
    sources: Sequence[SiteRef], run: Mapping[str, object], rows_seed: int | None
) -> tuple[str, pb.TrainConfig]:
    """Return the id and the settings of one of several dictionaries."""
    given = {**run}
    features, k, name = (
        given.pop("features", None),
        given.pop("k", None),
        given.pop("dictionary", None),
    )
    settings, leave_out = given.pop("settings", None), given.pop("leave_out", None)
    init = _start(given.pop("init", None))
    check_whole("features of a run", features, 1)
    if k is not None:
        check_whole("k of a run", k, 1)
    for what, value in (("settings", settings), ("leave_out", leave_out)):
        if not (value is None or isinstance(value, Mapping)):
            raise InvalidInput(f"{what} of a run is {value!r}, wanted a mapping of names to values")
    if given.get("steps") is not None:
        given["steps"] = named_steps(cast("Sequence[int]", given["steps"]))
    chosen = _of_kind(
        cast("int", features),
        cast("int | None", k),
        cast("Mapping[str, object] | None", settings) or {},
    )
    more = cast("dict[str, Setting]", {"rows_seed": rows_seed, **given})
    config = to_config(
        chosen,
        more,
        {},
        cast("Mapping[str, object] | None", leave_out),
        init,
    )
    if name is not None:
        check_text("dictionary of a run", name, "my-dictionary")
    made = ids.dictionary_id(sources, cast("int", features), asked_config(config))
    return cast("str | None", name) or made, config


def _request(
    name: str,
    sources: Sequence[SiteRef],
    config: pb.TrainConfig,
    time_limit_s: float | None,
    request_id: str | None,
    processes: int | None = None,
) -> pb.TrainDictionaryRequest:
    if processes is not None:
        check_whole("processes", processes, 1)
    return pb.TrainDictionaryRequest(
        dictionary_id=from_name("dictionaries", to_name("dictionaries", name)),
        sources=[to_message(source, pb.Source) for source in sources],
        config=config,
        time_limit_s=time_limit_s,
        request_id=ids.request_id(request_id),
        processes=processes,
    )


def _start(init: object) -> Mapping[str, object] | None:
    """Return settings of a start; of a dictionary those that take its decoder."""
    if init is None or isinstance(init, Mapping):
        return cast("Mapping[str, object] | None", init)
    if not isinstance(init, str | DictionaryInfo):
        raise InvalidInput(
            f"init is {init!r}, wanted a dictionary, its id, or a mapping of names to values"
        )
    return {"directions": "given", "dictionary": ids.id_of(init)}


def _of_kind(features: int, k: int | None, settings: Mapping[str, object]) -> dict[str, object]:
    own: dict[str, object] = {"features": features} if k is None else {"features": features, "k": k}
    if twice := sorted(own.keys() & settings.keys()):
        raise InvalidInput(f"{', '.join(twice)} is given twice: leave it out of settings")
    return {**own, **settings}


def floor(
    dictionary: DictionaryInfo | str,
    how: str = "rotated",
    *,
    made: str | None = None,
    seed: int = 0,
    time_limit_s: float | None = None,
    request_id: str | None = None,
) -> Call[Started[DictionaryInfo]]:
    """Begin a job that makes a dictionary which has nothing, or less, to share than a trained one.

    A match of another dictionary with it is a floor: what a match finds anyway, see ``floors`` of
    :meth:`match`.

    Args:
        dictionary: the trained dictionary, or its id.
        how: ``rotated``: it reads and writes rows that a random rotation turned, so that norms and
            angles are those of the model and directions are not. ``untrained``: the weights that
            its training started from, thresholds set on the same rows. ``frozen_decoder``,
            ``frozen_encoder``, ``soft_frozen_decoder``: trained again like it with that control.
        made: id of the dictionary to make; None: one made of the arguments.
        seed: of the rotation; the others keep the seed of the training.
        time_limit_s: for how many seconds the job may run; None: as long as the server lets it.
        request_id: any text; a second call with the same one returns the first call's job.

    Returns:
        A handle on the job; its result is the dictionary.

    Raises:
        NotFound: there is no dictionary with that id.
        InvalidInput: there is no such ``how``, or the dictionary was not trained here.
    """
    known = ("rotated", "untrained", *CONTROLS)
    if how not in known:
        raise InvalidInput(f"how is {how!r}, wanted one of {', '.join(known)}")
    source = ids.id_of(dictionary)
    name = made or ids.floor_id(source, how, seed)
    made_name = from_name("dictionaries", to_name("dictionaries", name))
    if how != "rotated":
        return _retrained(source, how, made_name, time_limit_s, request_id)
    request = universality_pb2.RotateDictionaryRequest(
        dictionary_id=made_name,
        source=to_name("dictionaries", source),
        seed=seed,
        time_limit_s=time_limit_s,
        request_id=ids.request_id(request_id),
    )
    return then(ask(request, Operation), started("dictionaries", get_dictionary))


def _retrained(
    source: str, how: str, made: str, time_limit_s: float | None, request_id: str | None
) -> Call[Started[DictionaryInfo]]:
    """Train again as a dictionary was trained, with a control or without moving the weights."""
    found = yield from get_dictionary(source)
    config = found.provenance.get("config")
    if not isinstance(config, Mapping):
        raise InvalidInput(
            f"dictionary {source!r} was not trained here, so it cannot be trained again: make the "
            "floor 'rotated', or import the codes of one"
        )
    values = {
        name: value
        for name, value in cast("Mapping[str, object]", config).items()
        if name not in ("settings", "leave_out", "controls", "control", "init")
        and value is not None
    }
    values |= {"control": how} if how in CONTROLS else _UNTRAINED
    request = _request(
        made,
        [SiteRef(recording=one.recording, site=one.site) for one in found.sources],
        to_config(
            cast("Mapping[str, object]", config.get("settings", {})),
            {},
            cast("Mapping[str, Setting]", values),
            cast("Mapping[str, object] | None", config.get("leave_out")),
            cast("Mapping[str, object] | None", config.get("init")),
        ),
        time_limit_s,
        request_id,
    )
    answer = yield from ask(request, Operation)
    return reading(started("dictionaries", get_dictionary), answer)


def kinds() -> Call[list[KindInfo]]:
    """Return the kinds of dictionary that the server can train, by name.

    Returns:
        Kinds of installed packages too; each with the JSON schema of its settings.
    """
    return then(
        ask(pb.ListKindsRequest(), pb.ListKindsResponse),
        lambda found: [from_message(kind, KindInfo) for kind in found.kinds],
    )


def wirings() -> Call[list[str]]:
    """Return the names of the wirings that the server can train: which sites go in and come out."""
    return then(ask(pb.ListKindsRequest(), pb.ListKindsResponse), lambda found: list(found.wirings))


def dictionary_info(dictionary: str) -> Call[DictionaryInfo]:
    """Return what describes a dictionary. :meth:`Client.dictionary` returns it ready to use.

    Args:
        dictionary: id of the dictionary.

    Returns:
        What it was trained on, and how well it does.

    Raises:
        NotFound: there is no dictionary with that id.
    """
    return get_dictionary(dictionary)


def get_dictionary(name: str) -> Call[DictionaryInfo]:
    """Ask for a dictionary; where a parameter is called like the function above."""
    request = pb.GetDictionaryRequest(name=to_name("dictionaries", name))
    return then(ask(request, pb.Dictionary), lambda message: from_message(message, DictionaryInfo))


def dictionaries() -> Call[list[DictionaryInfo]]:
    """Return all dictionaries, by id."""
    return collect(
        lambda token: pb.ListDictionariesRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListDictionariesResponse,
        lambda page: (
            [from_message(message, DictionaryInfo) for message in page.dictionaries],
            page.next_page_token,
        ),
    )


def delete_dictionary(dictionary: str, etag: str, *, cascade: bool = False) -> Call[list[str]]:
    """Delete a dictionary.

    Args:
        dictionary: id of the dictionary.
        etag: ``etag`` of the dictionary as :meth:`Client.dictionary` returned it; so that nothing
            is deleted that changed since.
        cascade: whether to delete the matches and codes of it too, and to take it from the probes
            that have it; what is left of such a probe is indexed anew by a job.

    Returns:
        Names of what was deleted or changed with it, such as ``matches/a-b``.

    Raises:
        NotFound: there is no dictionary with that id.
        Conflict: the dictionary changed since ``etag`` was read; a job uses it; or something
            mentions it, which the message names, and ``cascade`` is False.
    """
    request = pb.DeleteDictionaryRequest(
        name=to_name("dictionaries", dictionary), etag=etag, cascade=cascade
    )
    return then(ask(request, pb.DeleteDictionaryResponse), lambda found: list(found.deleted))


def keep_token_effects(
    dictionary: "DictionaryInfo | HeldDictionary | str", effects: Sequence[TokenEffects]
) -> Call[int]:
    """Keep with a dictionary which next tokens its features promote and suppress.

    :func:`isogloss.dictionaries.token_effects` measures them in a live model; from now on
    :meth:`feature` shows them to everybody who asks.

    Args:
        dictionary: the dictionary, or its id.
        effects: of its features, 1,024 at most in one call; they take the place of those of the
            same features that were kept before.

    Returns:
        Of how many features of the dictionary effects are kept now, 4,096 at most.

    Raises:
        NotFound: there is no dictionary with that id.
        InvalidInput: there is no such feature, one stands twice, a list has more than 64 tokens, or
            a number is not finite.
    """
    name = ids.id_of(dictionary)
    given = cast("Sequence[object]", effects)  # callers are not always checked by types
    if odd := [one for one in given if not isinstance(one, TokenEffects)]:
        raise InvalidInput(
            f"effects hold {odd[0]!r:.40}; wanted what isogloss.dictionaries.token_effects gives"
        )
    request = pb.KeepTokenEffectsRequest(
        name=to_name("dictionaries", name),
        effects=[to_message(one, pb.TokenEffects) for one in effects],
    )
    return then(ask(request, pb.KeepTokenEffectsResponse), lambda found: found.features)


def encode(
    dictionary: "DictionaryInfo | HeldDictionary | str",
    rows: RowsT,
    *,
    recording: str | None = None,
    site: str | None = None,
    allow: Sequence[str] = (),
) -> Call[tuple[RowsT, RowsT]]:
    """Return the features active on rows, as the store's owner encodes them.

    Args:
        dictionary: the dictionary, or its id.
        rows: activations of the dictionary's site, ``[..., width]``, bfloat16, float16 or float32;
            an array of numpy or a tensor of torch.
        recording: id of the recording that the rows are of: model, site, width and scale are then
            compared with what the dictionary was trained on. None: nothing is compared.
        site: site of that recording; None: the one that was trained on.
        allow: what may differ, such as ``["model"]``.

    Returns:
        Values (float32) and feature indices (int32), both ``[..., k]``; a value of 0 stands for no
        feature. Arrays for an array; for a tensor tensors on its device.

    Raises:
        NotFound: there is no dictionary or recording with that id.
        ShapeError: the rows are not ``[..., width]`` of the dictionary's width.
        PassportRefused: the rows are of something else than the dictionary was trained on.
        InvalidInput: the rows are a tensor that wants gradients, which end at the wire.
    """
    sent = ArrayLike.of("rows", rows)
    array = sent.array
    is_swapped = array.dtype.byteorder == ">"  # what is sent is read as little-endian
    if array.ndim < 1 or is_swapped or array.dtype.name not in ("bfloat16", "float16", "float32"):
        raise ShapeError(
            f"rows are {array.dtype} {list(array.shape)}, wanted bfloat16, float16 or float32 "
            "[..., width]"
        )
    width = array.shape[-1]
    count = math.prod(array.shape[:-1])
    tensor = Tensor(
        dtype=to_dtype(array.dtype.name),
        rows=count,
        width=width,
        data=np.ascontiguousarray(array).tobytes(),
    )
    request = pb.EncodeRequest(
        name=to_name("dictionaries", ids.id_of(dictionary)),
        recording="" if recording is None else to_name("recordings", recording),
        site=site or "",
        allow=allow,
        rows=tensor,
    )
    answer = ask(request, pb.EncodeResponse)
    return then(answer, partial(_codes, rows=count, sent=sent))


def _codes(message: pb.EncodeResponse, rows: int, sent: ArrayLike[RowsT]) -> tuple[RowsT, RowsT]:
    if message.rows != rows or message.k < 0:
        raise ShapeError(f"codes are [{message.rows}, {message.k}], wanted {rows} rows")
    shape = (*sent.array.shape[:-1], message.k)
    values = np.frombuffer(message.values, "<f4").reshape(shape)
    return sent.back(values), sent.back(np.frombuffer(message.indices, "<i4").reshape(shape))


def decode(
    dictionary: "DictionaryInfo | HeldDictionary | str", values: RowsT, indices: RowsT
) -> Call[RowsT]:
    """Return the rows that features stand for, as the store's owner decodes them.

    Args:
        dictionary: the dictionary, or its id.
        values: activation of each feature, ``[..., k]``; an array of numpy or a tensor of torch.
        indices: which features, ``[..., k]``, whole numbers.

    Returns:
        Float32 ``[..., target_width]``, an array or a tensor as ``values`` is. The part of a linear
        map is not in it: that needs the rows.

    Raises:
        NotFound: there is no dictionary with that id.
        ShapeError: the two differ in shape.
        InvalidInput: an index is not that of a feature; or a tensor wants gradients.
    """
    sent, chosen = ArrayLike.of("values", values), ArrayLike.of("indices", indices).array
    given = sent.array
    is_whole = np.issubdtype(chosen.dtype, np.integer)
    if given.shape != chosen.shape or given.ndim < 1 or not is_whole:
        raise ShapeError(
            f"values are {list(given.shape)} and indices {chosen.dtype} {list(chosen.shape)}, "
            "wanted numbers and whole numbers of one shape [..., k]"
        )
    rows, k = math.prod(given.shape[:-1]), given.shape[-1]
    if chosen.size and not -(1 << 31) <= chosen.min() <= chosen.max() < 1 << 31:
        raise InvalidInput(f"indices go from {chosen.min()} to {chosen.max()}: no features")
    request = pb.DecodeRequest(
        name=to_name("dictionaries", ids.id_of(dictionary)),
        rows=rows,
        k=k,
        values=given.astype("<f4").tobytes(),
        indices=chosen.astype("<i4").tobytes(),
    )
    return then(ask(request, pb.DecodeResponse), partial(_decoded, rows=rows, sent=sent))


def _decoded(message: pb.DecodeResponse, rows: int, sent: ArrayLike[RowsT]) -> RowsT:
    found = message.rows
    if found.rows != rows or found.width < 1 or from_dtype(found.dtype) != "float32":
        raise ShapeError(f"rows are [{found.rows}, {found.width}], wanted float32 [{rows}, width]")
    shape = (*sent.array.shape[:-1], found.width)
    return sent.back(np.frombuffer(found.data, "<f4").reshape(shape))


class DictionariesClient(Connection):
    """Dictionaries, for :class:`isogloss.Client`."""

    train = starting(train)
    floor = starting(floor)
    train_many = starting(train_many)
    kinds = blocking(kinds)
    wirings = blocking(wirings)
    dictionary = blocking(dictionary)
    dictionary_info = blocking(dictionary_info)
    dictionaries = blocking(dictionaries)
    delete_dictionary = blocking(delete_dictionary)
    keep_token_effects = blocking(keep_token_effects)
    encode = blocking(encode)
    decode = blocking(decode)


class AsyncDictionariesClient(AsyncConnection):
    """Dictionaries, for :class:`isogloss.AsyncClient`."""

    train = starting_async(train)
    floor = starting_async(floor)
    train_many = starting_async(train_many)
    kinds = awaiting(kinds)
    wirings = awaiting(wirings)
    dictionary = awaiting(dictionary)
    dictionary_info = awaiting(dictionary_info)
    dictionaries = awaiting(dictionaries)
    delete_dictionary = awaiting(delete_dictionary)
    keep_token_effects = awaiting(keep_token_effects)
    encode = awaiting(encode)
    decode = awaiting(decode)
