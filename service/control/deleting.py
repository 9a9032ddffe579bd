"""Delete dictionaries, probes and matches, and the resources that depend on them.

A resource that depends on another is removed from the catalog before it, so that after a crash the
same call goes on. Garbage collection removes a directory that a crash left.
"""

import shutil
from collections.abc import Iterable, Sequence

from isogloss.errors import Conflict, InvalidInput
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_kinds import job_kind, read_spec
from isogloss.service.values.job_specs import JobSpec, ProbeSpec, TrainSpec
from isogloss.service.values.json_fields import object_of, text_of, texts_of
from isogloss.store import CatalogEntry, Store

_SHOWN = 8


def delete_dictionary(
    store: Store, jobs: Jobs, dictionary: str, etag: str, *, cascade: bool
) -> list[str]:
    """Delete a dictionary; arguments, result and errors as for :meth:`Client.delete_dictionary`."""
    found = _entry(store, "dictionary", dictionary, etag)
    check_unused(jobs, "dictionary", dictionary)
    matches = _having(store, "match", found.uid, "a_uid", "b_uid")
    codes = _having(store, "codes", found.uid, "dictionary_uid")
    probes = [
        e for e in store.catalog.list("probe") if dictionary in texts_of(e.body, "dictionaries")
    ]
    names = [*_names("matches", matches), *_names("probes", probes)]
    _check_mentions(f"dictionary {dictionary!r}", names, is_allowed=cascade)
    for match in matches:
        _remove(store, match)
    for probe in probes:
        _take_out(store, jobs, probe, dictionary)
    for entry in codes:
        _remove(store, entry, found.uid, text_of(entry.body, "probe_uid"))
    _remove(store, found, etag=etag)
    return names


def delete_probe(store: Store, jobs: Jobs, probe: str, etag: str, *, cascade: bool) -> list[str]:
    """Delete a probe; arguments, result and errors as for :meth:`Client.delete_probe`."""
    found = _entry(store, "probe", probe, etag)
    check_unused(jobs, "probe", probe)
    matches = _having(store, "match", found.uid, "probe_uid")
    names = _names("matches", matches)
    _check_mentions(f"probe {probe!r}", names, is_allowed=cascade)
    for match in matches:
        _remove(store, match)
    for entry in _having(store, "codes", found.uid, "probe_uid"):
        _remove(store, entry, text_of(entry.body, "dictionary_uid"), found.uid)
    for atlas in _having(store, "atlas", found.uid, "probe_uid"):
        _remove(store, atlas)
    _remove(store, found, etag=etag)
    return names


def delete_match(store: Store, match: str, etag: str) -> None:
    """Delete a match; errors as for :meth:`Client.delete_match`."""
    _remove(store, _entry(store, "match", match, etag), etag=etag)


def _entry(store: Store, kind: str, name: str, etag: str) -> CatalogEntry:
    """Return an entry in the version that is meant."""
    if not etag:
        raise InvalidInput(
            f"etag is empty: pass the etag of the {kind} you mean, as get or list gave it"
        )
    found = store.catalog.get(kind, name)
    if found.etag != etag:
        raise Conflict(
            f"{kind} {name!r} has etag {found.etag}, not {etag}: it changed; read it again"
        )
    return found


def check_unused(jobs: Jobs, kind: str, name: str) -> None:
    """Raise Conflict for a resource that an unfinished job reads or makes.

    Args:
        jobs: the store's job queue.
        kind: ``recording``, ``dictionary`` or ``probe``.
        name: id of the resource.

    Raises:
        Conflict: a job uses the resource; the message names the job.
    """
    for job in jobs.list():
        if job.state.is_final:
            continue
        spec = read_spec(job.kind, job.spec)
        if (kind, name) in {*spec.reads, *_made(job_kind(job.kind).makes, spec)}:
            raise Conflict(
                f"{kind} {name!r} is used by job {job.id!r}, which is {job.state}: wait for it, or "
                "cancel it, then delete again"
            )


def _made(kind: str, spec: JobSpec) -> set[tuple[str, str]]:
    """Return what a job makes: kind in the catalog, id."""
    names = spec.dictionaries if isinstance(spec, TrainSpec) else (spec.target,)
    return {(kind, name) for name in names}


def _check_mentions(what: str, names: Sequence[str], *, is_allowed: bool) -> None:
    if names and not is_allowed:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise Conflict(
            f"{what} is mentioned by {', '.join(names[:_SHOWN])}{more}: delete those first, or "
            "pass cascade to have that done"
        )


def _having(store: Store, kind: str, uid: str, *fields: str) -> list[CatalogEntry]:
    """Return the entries of a kind that name a uid in one of their fields."""
    entries = store.catalog.list(kind)
    return [entry for entry in entries if uid in {entry.body.get(field) for field in fields}]


def _names(collection: str, entries: Iterable[CatalogEntry]) -> list[str]:
    return [f"{collection}/{entry.id}" for entry in entries]


def _remove(store: Store, entry: CatalogEntry, *uids: str, etag: str | None = None) -> None:
    """Remove an entry and its directory, which ``uids`` name where its own uid does not."""
    store.catalog.delete(entry.kind, entry.id, etag)
    directory = store.artifact(entry.kind, *(uids or (entry.uid,)))
    shutil.rmtree(directory, ignore_errors=True)


def _take_out(store: Store, jobs: Jobs, probe: CatalogEntry, dictionary: str) -> None:
    """Take a dictionary from a probe; a job indexes those that are left."""
    left = [name for name in texts_of(probe.body, "dictionaries") if name != dictionary]
    body = {**probe.body, "dictionaries": left}
    store.catalog.put("probe", probe.id, probe.uid, body, replace=True)
    for atlas in _having(store, "atlas", probe.uid, "probe_uid"):
        if dictionary in object_of(atlas.body, "dictionaries"):
            _remove(store, atlas)
    if left:
        recordings = tuple(texts_of(probe.body, "recordings"))
        spec = ProbeSpec(probe=probe.id, recordings=recordings, dictionaries=tuple(left))
        jobs.submit(spec)
