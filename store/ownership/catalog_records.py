"""The catalog of a store without locks: each change of an entry is the creation of a small file.

``catalog/<kind>/<id>.<version>`` holds an entry, or says that it was deleted. The highest version
counts. A change creates the next version exclusively, so of two changes made from the same version
one fails. sqlite is not possible here: it needs locks, and shared memory.
"""

import builtins
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from isogloss.errors import AlreadyExists, Conflict, CorruptData, InvalidInput, NotFound
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem, make_directories, read_files, storage_errors
from isogloss.store.ownership.catalog import Catalog, CatalogEntry, check_kind
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_mapping, get_text
from isogloss.store.schema.names import check_id, check_uid

_TRIES = 16


class RecordCatalog(Catalog):
    """Reads and changes the entries of one store; the same interface as :class:`Catalog`.

    Args:
        files: the file system that the store is on.
        directory: the catalog's directory.
    """

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self.path = directory
        """Directory of the entries."""
        self._files = files
        self._read: dict[Path, CatalogEntry | None] = {}
        self._cache_lock = threading.Lock()

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _versions(self, kind: str) -> dict[str, list[int]]:
        """Return the versions of each id, ascending."""
        found: dict[str, list[int]] = {}
        for name in self._files.names(self.path / kind):
            entry, _, version = name.rpartition(".")
            if entry and version.isdigit() and not name.startswith("."):
                found.setdefault(entry, []).append(int(version))
        return found

    def _entry_path(self, kind: str, id: str, version: int) -> Path:  # noqa: A002 - the word for it
        return self.path / kind / f"{id}.{version:08d}"

    def _entries(self, paths: list[Path]) -> list[CatalogEntry | None]:
        """Return what versions hold, None for a deletion; each version is read once."""
        with self._cache_lock:
            new = [path for path in paths if path not in self._read]
        for path, content in zip(new, read_files(self._files, new), strict=True):
            entry = _decode(content, path)
            with self._cache_lock:
                self._read[path] = entry
        with self._cache_lock:
            return [self._read[path] for path in paths]

    def _latest(self, kind: str, id: str) -> tuple[int, CatalogEntry | None]:  # noqa: A002 - above
        version = self._versions(kind).get(id, [0])[-1]
        if not version:
            return 0, None
        return version, self._entries([self._entry_path(kind, id, version)])[0]

    def _write(
        self,
        kind: str,
        id: str,  # noqa: A002 - as above
        version: int,
        document: Mapping[str, object],
    ) -> bool:
        """Create a version of an entry; return False where another process created it first."""
        path = self._entry_path(kind, id, version)
        make_directories(self._files, path.parent)
        nonce = {"schema_version": SCHEMA_VERSION, "nonce": secrets.token_hex(8)}
        try:
            self._files.create_record(path, signed_json.encode({**document, **nonce}))
        except FileExistsError:
            return False
        return True

    def put(
        self,
        kind: str,
        id: str,  # noqa: A002 - as above
        uid: str,
        body: Mapping[str, object],
        *,
        replace: bool = False,
    ) -> CatalogEntry:
        """Add an entry, or with ``replace`` change the one that is there.

        Args:
            kind: one of ``KINDS``.
            id: name within the kind.
            uid: from :meth:`new_uid`.
            body: JSON that belongs to the kind.
            replace: whether to change an entry that exists, instead of raising AlreadyExists.

        Returns:
            The entry as it is now.

        Raises:
            AlreadyExists: the entry exists and ``replace`` is False.
            InvalidInput: the kind is unknown, or the body is no JSON.
            Conflict: other processes changed it at each of 16 tries.
        """
        check_kind(kind)
        check_id(id)
        check_uid(uid)
        try:
            text = json.dumps(dict(body), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"body of {kind} {id!r} must be plain JSON: {error}") from error
        etag = hashlib.sha256(f"{uid}{text}{secrets.token_hex(8)}".encode()).hexdigest()[:16]
        with storage_errors(f"{kind} {id!r} cannot be written to the catalog"):
            for _ in range(_TRIES):
                version, old = self._latest(kind, id)
                if old is not None and not replace:
                    raise AlreadyExists(
                        f"{kind} {id!r} exists: choose another id, or delete it first"
                    )
                entry = CatalogEntry(
                    kind=kind,
                    id=id,
                    uid=uid,
                    body=json.loads(text),
                    etag=etag,
                    created_s=time.time() if old is None else old.created_s,
                )
                if self._write(kind, id, version + 1, _encode(entry)):
                    return entry
        raise Conflict(f"{kind} {id!r} changed {_TRIES} times meanwhile: read it again")

    def get(self, kind: str, id: str) -> CatalogEntry:  # noqa: A002 - as above
        """Return an entry; NotFound where there is no such entry."""
        found = self.find(kind, id)
        if found is None:
            known = ", ".join(entry.id for entry in self.list(kind)) or "none"
            raise NotFound(f"no {kind} {id!r}; there are: {known}")
        return found

    def find(self, kind: str, id: str) -> CatalogEntry | None:  # noqa: A002 - as above
        """Return an entry, or None."""
        with storage_errors("the catalog cannot be read"):
            return self._latest(check_kind(kind), id)[1]

    def list(self, kind: str) -> list[CatalogEntry]:
        """Return all entries of a kind, by id."""
        check_kind(kind)
        with storage_errors("the catalog cannot be read"):
            versions = self._versions(kind)
            paths = [self._entry_path(kind, n, found[-1]) for n, found in versions.items()]
            entries = self._entries(paths)
        return sorted((e for e in entries if e is not None), key=lambda entry: entry.id)

    def delete(self, kind: str, id: str, etag: str | None = None) -> None:  # noqa: A002 - as above
        """Remove an entry.

        Args:
            kind: one of ``KINDS``.
            id: name within the kind.
            etag: etag of the entry as it was read; None: delete it even if it changed since.

        Raises:
            NotFound: there is no such entry.
            Conflict: the entry changed since ``etag`` was read, or other processes changed it at
                each of 16 tries.
        """
        check_kind(kind)
        with storage_errors(f"{kind} {id!r} cannot be deleted from the catalog"):
            for _ in range(_TRIES):
                version, old = self._latest(kind, id)
                if old is None:
                    raise NotFound(f"no {kind} {id!r}")
                if etag is not None and old.etag != etag:
                    raise Conflict(
                        f"{kind} {id!r} has etag {old.etag}, not {etag}: it changed; read it again"
                    )
                if self._write(kind, id, version + 1, {"is_deleted": True}):
                    return
        raise Conflict(f"{kind} {id!r} changed {_TRIES} times meanwhile: read it again")

    def litter(self, older_s: float) -> "builtins.list[Path]":
        """Return what crashes left and versions that a newer one replaced, once they are old.

        Young versions stay: another process may be about to create the next version, and must find
        its number taken.
        """
        found: builtins.list[Path] = []
        for kind in self._files.names(self.path):
            names = self._files.names(self.path / kind)
            found += [self.path / kind / name for name in names if name.startswith(".")]
            for name, versions in self._versions(kind).items():
                found += [self._entry_path(kind, name, version) for version in versions[:-1]]
        now = self._files.time_s()
        return [path for path in found if now - self._files.modified_s(path) > older_s]


def _encode(entry: CatalogEntry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "id": entry.id,
        "uid": entry.uid,
        "body": dict(entry.body),
        "etag": entry.etag,
        "created_s": entry.created_s,
    }


def _decode(content: bytes, path: Path) -> CatalogEntry | None:
    document = signed_json.decode(content, f"catalog entry {path.name}")
    if document.get("is_deleted") is True:
        return None
    try:
        return CatalogEntry(
            kind=get_text(document, "kind"),
            id=get_text(document, "id"),
            uid=check_uid(get_text(document, "uid")),
            body=get_mapping(document, "body"),
            etag=get_text(document, "etag"),
            created_s=float(str(document.get("created_s", 0))),
        )
    except InvalidInput as error:
        raise CorruptData(f"catalog entry {path.name} cannot be read: {error}") from error
