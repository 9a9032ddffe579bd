"""The probe job: the documents dictionaries are compared on, their codes there, and their atlas."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence

from isogloss.dictionaries import (
    SparseDictionary,
    check_recording,
    check_weights,
    load_dictionary,
    read_passport,
)
from isogloss.errors import AlreadyExists, Conflict, InvalidInput, IsoglossError
from isogloss.service.tasks.heart import Heart
from isogloss.service.tasks.train import trained_holdout
from isogloss.service.values.dictionary_bodies import has_weights, sources_of, wiring_of
from isogloss.service.values.job_specs import ProbeSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import (
    codes_id,
    object_of,
    revision_of,
    share_of,
    steps_of,
    texts_of,
)
from isogloss.store import CatalogEntry, RecordingReader, Store
from isogloss.universality import (
    Atlas,
    Probe,
    build_probe,
    encode_probe,
    load_probed,
    signatures,
    step_to_compare,
)

HOLDOUT = 0.25
"""Share of the documents a probe takes when nobody says otherwise; training holds out as many."""

_STEPS = 100
"""Steps of progress that one dictionary counts for."""

_SIGNATURE = 512
"""Numbers of a signature."""

_log = logging.getLogger(__name__)


def probe_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Build the probe where it is missing, and add the dictionaries that it lacks."""
    probe = ensure_probe(store, heart, ProbeSpec.from_dict(record.spec))
    return {"probe": probe.id}


def ensure_probe(store: Store, heart: Heart, wanted: ProbeSpec) -> CatalogEntry:
    """Return the probe's catalog entry once it has the dictionaries; builds what is missing.

    Raises:
        NotFound: a recording or dictionary does not exist.
        InvalidInput: a dictionary was trained on documents that the probe would take, or on a
            recording that the probe does not have.
        AlreadyExists: the probe is there with other recordings, holdout, grid or steps.
        Errors of :func:`isogloss.universality.build_probe`.
    """
    dictionaries = [store.catalog.get("dictionary", name) for name in wanted.dictionaries]
    total = _STEPS * (len(dictionaries) + 1)
    heart.progress(0, total, {})
    entry = store.catalog.find("probe", wanted.probe) or _build(store, heart, wanted, dictionaries)
    _check_same(entry, wanted, dictionaries)
    probe = Probe.load(store.artifact("probe", entry.uid))
    for done, dictionary in enumerate(dictionaries):

        def on_progress(segments: int, of: int, done: int = done) -> None:
            heart.check()
            heart.progress(_STEPS * done + _STEPS * segments // max(of, 1), total, {})

        heart.check()
        _encode(store, entry, probe, dictionary, on_progress)
    names = sorted({*texts_of(entry.body, "dictionaries"), *wanted.dictionaries})
    _index(store, heart, entry, probe, names)
    if names != entry.body["dictionaries"]:
        body = {**entry.body, "dictionaries": names}
        entry = store.catalog.put("probe", entry.id, entry.uid, body, replace=True)
    heart.progress(total, total, {"segments": float(probe.segments)})
    return entry


def _build(
    store: Store, heart: Heart, wanted: ProbeSpec, dictionaries: Sequence[CatalogEntry]
) -> CatalogEntry:
    names = sorted({*wanted.recordings, *(name for d in dictionaries for name in _recordings(d))})
    limit = min((trained_holdout(entry) for entry in dictionaries), default=HOLDOUT)
    holdout = wanted.holdout if wanted.holdout is not None else min(HOLDOUT, limit)
    if holdout <= 0 and dictionaries:
        raise InvalidInput(
            "the dictionaries were trained with holdout 0, so no document is left to compare them "
            "on: train them with holdout 0.25"
        )
    uid = str(heart.pin("probe_uid", store.catalog.new_uid))
    pinned = heart.pin(
        "revisions", lambda: {name: store.recording(name).revision().to_dict() for name in names}
    )
    revisions = object_of({"revisions": pinned}, "revisions")
    readers = {name: store.recording(name).reader(revision_of(revisions, name)) for name in names}
    heart.check()
    probe = build_probe(
        readers,
        holdout=holdout,
        grid=wanted.grid,
        steps=_steps(readers, dictionaries, wanted.steps),
        probe_id=wanted.probe,
        uid=uid,
    )
    probe.save(store.artifact("probe", uid))
    body: dict[str, object] = {
        "recordings": names,
        "revisions": revisions,
        "dictionaries": [],
        "grid": probe.grid,
        "holdout": holdout,
        "documents": len(probe.documents),
        "segments": probe.segments,
        **({"steps": list(wanted.steps)} if wanted.steps else {}),
    }
    return store.catalog.put("probe", wanted.probe, uid, body)


def _steps(
    readers: Mapping[str, RecordingReader],
    dictionaries: Sequence[CatalogEntry],
    asked: Sequence[int],
) -> dict[str, list[int]]:
    """Return, by recording that has several training steps, those that the probe compares at."""
    here = {name: set(reader.rows_of_steps()) for name, reader in readers.items()}
    if lacking := sorted(set(asked).difference(*here.values())):
        raise InvalidInput(
            f"no rows of training step {', '.join(map(str, lacking))} are in "
            f"{', '.join(sorted(here))}: see client.steps(recording), or `isogloss describe`"
        )
    found = {name: here[name] & set(asked) for name in here if len(here[name]) > 1}
    for entry in dictionaries:
        for source in sources_of(entry.body):
            if source.recording in found:
                step = step_to_compare(readers[source.recording], source.steps, asked)
                found[source.recording].add(step)
    return {name: sorted(steps) for name, steps in found.items()}


def _recordings(dictionary: CatalogEntry) -> list[str]:
    """Return the ids of the recordings that a dictionary was trained on, each once."""
    return sorted({source.recording for source in sources_of(dictionary.body)})


def _check_same(
    entry: CatalogEntry, wanted: ProbeSpec, dictionaries: Sequence[CatalogEntry]
) -> None:
    recordings = texts_of(entry.body, "recordings")
    holdout = share_of(entry.body, "holdout") or 0.0
    others = sorted(set(wanted.recordings) - set(recordings))
    if others:
        raise AlreadyExists(
            f"probe {entry.id!r} exists with recordings {', '.join(recordings)} and lacks "
            f"{', '.join(others)}: its documents are pinned, so make a new probe"
        )
    if wanted.holdout is not None and wanted.holdout != holdout:
        raise AlreadyExists(
            f"probe {entry.id!r} exists with holdout {holdout:g}, wanted {wanted.holdout:g}: make "
            "a new probe"
        )
    if wanted.grid is not None and wanted.grid != entry.body.get("grid"):
        raise AlreadyExists(
            f"probe {entry.id!r} exists with grid {entry.body.get('grid')!r}, wanted "
            f"{wanted.grid!r}: make a new probe"
        )
    if wanted.steps and wanted.steps != steps_of(entry.body):
        raise AlreadyExists(
            f"probe {entry.id!r} exists with steps {list(steps_of(entry.body))}, wanted "
            f"{list(wanted.steps)}: make a new probe"
        )
    for dictionary in dictionaries:
        if lacking := [name for name in _recordings(dictionary) if name not in recordings]:
            raise InvalidInput(
                f"dictionary {dictionary.id!r} was trained on recording "
                f"{', '.join(map(repr, lacking))}, and probe {entry.id!r} has "
                f"{', '.join(recordings)}: make a probe with that recording"
            )
        if trained_holdout(dictionary) < holdout:
            raise InvalidInput(
                f"dictionary {dictionary.id!r} was trained with holdout "
                f"{trained_holdout(dictionary):g}, so probe {entry.id!r} (holdout {holdout:g}) "
                "has documents that it was trained on: make a probe with that holdout"
            )


def _encode(
    store: Store,
    entry: CatalogEntry,
    probe: Probe,
    dictionary: CatalogEntry,
    on_progress: Callable[[int, int], None],
) -> None:
    name = codes_id(dictionary.uid, entry.uid)
    if store.catalog.find("codes", name) is not None:
        return
    if not has_weights(dictionary.body):
        raise InvalidInput(
            f"dictionary {dictionary.id!r} was imported as codes on another probe and has no "
            f"weights: import its codes on probe {entry.id!r} too, under another id"
        )
    sources = sources_of(dictionary.body)
    if len(sources) != 1:
        raise InvalidInput(
            f"dictionary {dictionary.id!r} is a {wiring_of(dictionary.body)} of {len(sources)} "
            "sites, and a probe encodes rows of one: encode its rows with client.encode, or train "
            "a dictionary of one site (wiring sae) to compare"
        )
    (source,) = sources
    recording = store.recording(source.recording)
    if recording.uid != source.recording_uid:
        raise Conflict(
            f"recording {recording.id!r} was recorded anew after dictionary {dictionary.id!r} was "
            "trained on it: train the dictionary again"
        )
    revision = revision_of(object_of(entry.body, "revisions"), recording.id)
    reader = recording.reader(revision)
    step = step_to_compare(reader, source.steps, steps_of(entry.body))
    encode_probe(
        _checked(store, dictionary, reader, source.site),
        reader,
        source.site,
        probe,
        store.artifact("codes", dictionary.uid, entry.uid),
        steps=[step] if len(reader.rows_of_steps()) > 1 else None,
        on_progress=on_progress,
    )
    body: dict[str, object] = {
        "dictionary": dictionary.id,
        "dictionary_uid": dictionary.uid,
        "probe": entry.id,
        "probe_uid": entry.uid,
    }
    store.catalog.put("codes", name, store.catalog.new_uid(), body)


def _checked(
    store: Store, dictionary: CatalogEntry, reader: RecordingReader, site: str
) -> SparseDictionary:
    """Return a dictionary whose passport says that it is itself, and for these rows.

    Raises:
        PassportRefused: it is not.
    """
    directory = store.artifact("dictionary", dictionary.uid)
    found, passport = load_dictionary(directory), read_passport(directory)
    if passport is not None:
        checked = check_weights(passport, found)
        (checked + check_recording(passport, reader.spec, [site])).require()
    return found


def _index(
    store: Store, heart: Heart, entry: CatalogEntry, probe: Probe, names: Sequence[str]
) -> None:
    """Build the atlas of the dictionaries on a probe, unless it stands."""
    uids = {name: store.catalog.get("dictionary", name).uid for name in names}
    found = store.catalog.find("atlas", entry.id)
    if not names or (
        found is not None
        and found.body.get("probe_uid") == entry.uid
        and found.body.get("dictionaries") == uids
    ):
        return
    atlas = _standing(store, found, entry, uids)
    for name, uid in uids.items():
        heart.check()
        if name not in atlas.dictionaries:
            probed = load_probed(store.artifact("codes", uid, entry.uid), name)
            atlas.add(name, signatures(probed, probe, m=atlas.m), probed.moments.fires)
    uid = store.catalog.new_uid()
    atlas.save(store.artifact("atlas", uid))
    body: dict[str, object] = {"probe": entry.id, "probe_uid": entry.uid, "dictionaries": uids}
    store.catalog.put("atlas", entry.id, uid, body, replace=True)
    if found is not None:
        shutil.rmtree(store.artifact("atlas", found.uid), ignore_errors=True)


def _standing(
    store: Store, found: CatalogEntry | None, entry: CatalogEntry, uids: Mapping[str, str]
) -> Atlas:
    """Return the atlas that stands, with those dictionaries that are wanted as they were then.

    Readers go on with it: what is added here is seen when it is saved under another uid.
    """
    if found is not None and found.body.get("probe_uid") == entry.uid:
        before = object_of(found.body, "dictionaries")
        try:
            atlas = Atlas.load(store.artifact("atlas", found.uid))
            atlas.check()
        except IsoglossError as error:
            _log.warning("atlas of probe %r is built anew: %s", entry.id, error)
        else:
            atlas.keep([name for name, uid in uids.items() if before.get(name) == uid])
            return atlas
    return Atlas(_SIGNATURE, probe_uid=entry.uid)
