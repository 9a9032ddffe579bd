"""From the catalog's entries (bodies: see tasks/README.md) to results."""

from isogloss.errors import CorruptData, InvalidInput
from isogloss.service.values.dictionary_bodies import settings_of, sources_of, wiring_of
from isogloss.service.values.json_fields import object_of, share_of, steps_of, text_of, texts_of
from isogloss.service.values.results import DictionaryInfo, ProbeInfo
from isogloss.store import CatalogEntry


def dictionary_info(entry: CatalogEntry) -> DictionaryInfo:
    """Return what a catalog entry says of a dictionary; CorruptData where a field is amiss."""
    body = entry.body
    try:
        metrics = object_of(body, "metrics")
        return DictionaryInfo(
            id=entry.id,
            uid=entry.uid,
            etag=entry.etag,
            kind=text_of(body, "kind"),
            settings=settings_of(body),
            wiring=wiring_of(body),
            features=_count_of(entry, "features"),
            width=_count_of(entry, "width"),
            sources=sources_of(body),
            metrics={name: share_of(metrics, name) or 0.0 for name in metrics},
            provenance=object_of(body, "provenance"),
            created=entry.created_s,
        )
    except InvalidInput as error:
        raise _corrupt(entry, error) from error


def probe_info(entry: CatalogEntry) -> ProbeInfo:
    """Return what a catalog entry says of a probe; CorruptData where a field is amiss."""
    body = entry.body
    try:
        return ProbeInfo(
            id=entry.id,
            uid=entry.uid,
            etag=entry.etag,
            recordings=tuple(texts_of(body, "recordings")),
            dictionaries=tuple(texts_of(body, "dictionaries")),
            grid=text_of(body, "grid"),
            documents=_count_of(entry, "documents"),
            segments=_count_of(entry, "segments"),
            created=entry.created_s,
            steps=steps_of(body),
        )
    except InvalidInput as error:
        raise _corrupt(entry, error) from error


def _count_of(entry: CatalogEntry, name: str) -> int:
    value = entry.body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r}, wanted a whole number")
    return value


def _corrupt(entry: CatalogEntry, error: InvalidInput) -> CorruptData:
    return CorruptData(
        f"the catalog's entry of {entry.kind} {entry.id!r} is damaged: {error}; delete it and make "
        "it again"
    )
