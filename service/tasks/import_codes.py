"""The import job: a dictionary without weights, of codes that another tool computed on a probe."""

import shutil

from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.service.control.uploads import check_upload, read_parts, upload_directory
from isogloss.service.tasks.heart import Heart
from isogloss.service.tasks.probe import ensure_probe
from isogloss.service.values.dictionary_bodies import IMPORTED_CODES, source_to_dict
from isogloss.service.values.job_specs import ImportSpec, ProbeSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import (
    codes_id,
    object_of,
    revision_of,
    texts_of,
)
from isogloss.service.values.results import SourceInfo
from isogloss.store import CatalogEntry, Store
from isogloss.universality import Probe, write_foreign_codes


def import_codes_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Write the codes beside those of the probe's other dictionaries, register them, index them.

    What is made looks to every other verb like a dictionary that was encoded on the probe, but for
    its weights, which nobody has.
    """
    spec = ImportSpec.from_dict(record.spec)
    entry = store.catalog.get("probe", spec.probe)
    found = store.catalog.find("dictionary", spec.dictionary)
    if found is not None:
        _check_same(found, spec, entry)
    uid = str(heart.pin("uid", store.catalog.new_uid)) if found is None else found.uid
    if store.catalog.find("codes", codes_id(uid, entry.uid)) is None:
        _write(store, spec, entry, uid)
    if found is None:
        store.catalog.put("dictionary", spec.dictionary, uid, _body(store, spec, entry))
    heart.check()
    recordings = tuple(texts_of(entry.body, "recordings"))
    wanted = ProbeSpec(probe=entry.id, recordings=recordings, dictionaries=(spec.dictionary,))
    ensure_probe(store, heart, wanted)
    shutil.rmtree(upload_directory(store, spec.upload), ignore_errors=True)
    return {"dictionary": spec.dictionary}


def _write(store: Store, spec: ImportSpec, entry: CatalogEntry, uid: str) -> None:
    """Check the upload as a whole, and make codes of it."""
    probe = Probe.load(store.artifact("probe", entry.uid))
    check_upload(store, spec, probe.segments)
    directory = store.artifact("codes", uid, entry.uid)
    parts = read_parts(store, spec.upload)
    write_foreign_codes(parts, probe, directory, features=spec.features)
    body: dict[str, object] = {
        "dictionary": spec.dictionary,
        "dictionary_uid": uid,
        "probe": entry.id,
        "probe_uid": entry.uid,
    }
    store.catalog.put("codes", codes_id(uid, entry.uid), store.catalog.new_uid(), body)


def _body(store: Store, spec: ImportSpec, entry: CatalogEntry) -> dict[str, object]:
    recordings = texts_of(entry.body, "recordings")
    name = spec.recording or recordings[0]  # of an unknown model: the text to show is the same
    if name not in recordings:
        raise InvalidInput(
            f"recording {name!r} is not one of probe {entry.id!r}, which has "
            f"{', '.join(recordings)}: name one of these, or none"
        )
    recording = store.recording(name)
    source = SourceInfo(
        recording=name,
        recording_uid=recording.uid,
        site=spec.site,
        revision=revision_of(object_of(entry.body, "revisions"), name),
    )
    return {
        "kind": IMPORTED_CODES,
        "settings": {"features": spec.features},
        "features": spec.features,
        "width": 0,
        "k": 0,
        "sources": [source_to_dict(source)],
        "provenance": {
            "origin": spec.origin,
            "codes_sha256": spec.upload,
            "model_known": spec.recording is not None,
            "rows_trained": 0,
            "curve": [],
            "init_hash": "",
            "weights_sha256": "",
        },
        "metrics": {},
    }


def _check_same(found: CatalogEntry, spec: ImportSpec, probe: CatalogEntry) -> None:
    """Accept what an equal job made; refuse any other dictionary of that name."""
    digest = object_of(found.body, "provenance").get("codes_sha256")
    if digest != spec.upload:
        raise AlreadyExists(
            f"dictionary {found.id!r} exists and is not of these codes: choose another id, or "
            "delete it first"
        )
    del probe
