"""The store: one root, one owner, everything below it."""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    StoreOwned,
)
from isogloss.store import signed_json
from isogloss.store.catalog import Catalog, CatalogEntry
from isogloss.store.filesystem import (
    FileSystem,
    make_directories,
    read_file,
    remove_tree,
    storage_errors,
    write_atomic,
)
from isogloss.store.ownership import LOCK_NAME, SERVER_NAME, Ownership
from isogloss.store.recordings import Recording, create_recording_files
from isogloss.store.shards import DEFAULT_SHARD_BYTES
from isogloss.store.specs import (
    SCHEMA_VERSION,
    RecordingSpec,
    check_uid,
)
from isogloss.store.verifying import Problem

MANIFEST_NAME = "isogloss.json"
CATALOG_NAME = "catalog.sqlite"
_FOLDERS = {
    "dictionary": "dictionaries",
    "probe": "probes",
    "codes": "codes",
    "atlas": "atlases",
    "match": "matches",
}


class Store:
    """A root directory and what is in it. Use :meth:`open` or :meth:`attach`."""

    def __init__(self, root: Path, files: FileSystem, ownership: Ownership | None) -> None:
        self.root = root
        """Where the store lies."""
        self._files = files
        self._ownership = ownership
        self._lock = threading.RLock()
        self._recordings: dict[str, Recording] = {}
        self.catalog = Catalog(root / CATALOG_NAME)
        """What the store holds, by kind and id."""

    @classmethod
    def open(
        cls, path: Path | str, *, create: bool = True, files: FileSystem | None = None
    ) -> "Store":
        """Open a store and own it until it is closed.

        Args:
            path: root directory.
            create: make a new store where there is none.
            files: the operating system's files by default.

        Raises:
            StoreOwned: another process owns it; the message names its pid and address.
            NotFound: there is no store and ``create`` is false.
            InvalidInput: the directory holds something else.
        """
        root, files = Path(path).absolute(), files or FileSystem()
        if not files.exists(root / MANIFEST_NAME):
            if not create:
                raise NotFound(f"no store at {root}: create one with Store.open(path)")
            ours = {LOCK_NAME, SERVER_NAME, CATALOG_NAME}
            foreign = [n for n in files.names(root) if n not in ours and not n.startswith(".")]
            if foreign:
                raise InvalidInput(
                    f"{root} is no store and holds {foreign[0]!r}: choose an empty directory"
                )
            make_directories(files, root)
        ownership = Ownership(files, root)
        try:
            if not files.exists(root / MANIFEST_NAME):
                manifest = {"schema_version": SCHEMA_VERSION, "uid": Catalog.new_uid()}
                write_atomic(files, root / MANIFEST_NAME, signed_json.encode(manifest))
            _check_manifest(files, root)
            make_directories(files, root / "recordings")
            return cls(root, files, ownership)
        except BaseException:
            ownership.close()
            raise

    @classmethod
    def attach(cls, path: Path | str, *, files: FileSystem | None = None) -> "Store":
        """Open a store that another process may own: reads everything committed.

        Recordings cannot be changed through it; artifact directories and the catalog can.

        Raises:
            NotFound: there is no store.
        """
        root, files = Path(path).absolute(), files or FileSystem()
        _check_manifest(files, root)
        return cls(root, files, None)

    def close(self) -> None:
        """Close open lanes, the catalog, and give the store up. Later calls do nothing."""
        with self._lock:
            try:
                for recording in self._recordings.values():
                    recording.close()
            finally:
                self._recordings = {}
                self.catalog.close()
                if self._ownership is not None:
                    self._ownership.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_owner(self) -> bool:
        """Whether this process owns the store."""
        return self._ownership is not None

    def set_server(self, address: str | None) -> None:
        """Say in ``server.json`` where this owner answers; StoreOwned when it is not the owner."""
        self._owned().set_server(address)

    def _owned(self) -> Ownership:
        if self._ownership is None:
            raise StoreOwned(f"store {self.root} was attached, not opened: only its owner may")
        return self._ownership

    def create_recording(
        self,
        spec: RecordingSpec,
        vocabulary: Sequence[str],
        *,
        shard_bytes: int = DEFAULT_SHARD_BYTES,
    ) -> Recording:
        """Create a recording; an equal one that exists already is returned, to go on with it.

        Args:
            spec: what will be recorded.
            vocabulary: token strings; token id i is the i-th.
            shard_bytes: about how large a shard file becomes.

        Raises:
            AlreadyExists: a different recording has that id.
            StoreOwned: the store was attached, not opened.
        """
        self._owned()
        with self._lock:
            entry = self.catalog.find("recording", spec.recording)
            if entry is not None:
                return self._resume(entry, spec, vocabulary)
            uid = Catalog.new_uid()
            directory = self.root / "recordings" / uid
            create_recording_files(self._files, directory, spec, vocabulary, shard_bytes)
            entry = self.catalog.put("recording", spec.recording, uid, {"spec": spec.to_dict()})
            return self._recording(entry)

    def _resume(
        self, entry: CatalogEntry, spec: RecordingSpec, vocabulary: Sequence[str]
    ) -> Recording:
        recording = self._recording(entry)
        there, here = recording.spec.to_dict(), spec.to_dict()
        differing = [name for name in here if here[name] != there[name]]
        if recording.vocabulary() != tuple(vocabulary):
            differing.append("vocabulary")
        if differing:
            raise AlreadyExists(
                f"recording {spec.recording!r} exists with another {', '.join(differing)}: choose "
                "another id, or delete it first"
            )
        return recording

    def _recording(self, entry: CatalogEntry) -> Recording:
        with self._lock:
            known = self._recordings.get(entry.uid)
            if known is None:
                known = Recording(
                    files=self._files,
                    directory=self.root / "recordings" / check_uid(entry.uid),
                    etag=entry.etag,
                    is_owner=self.is_owner,
                )
                self._recordings[entry.uid] = known
            known.etag = entry.etag
            return known

    def recording(self, id: str) -> Recording:  # noqa: A002 - the word for it everywhere
        """Return a recording; NotFound when there is none."""
        return self._recording(self.catalog.get("recording", id))

    def recordings(self) -> list[Recording]:
        """Return all recordings, by id."""
        return [self._recording(entry) for entry in self.catalog.list("recording")]

    def delete_recording(self, id: str, etag: str | None = None) -> None:  # noqa: A002 - as above
        """Delete a recording with all its rows.

        Raises:
            NotFound: there is none.
            Conflict: it changed since ``etag`` was read, or takes batches in this process.
            StoreOwned: the store was attached, not opened.
        """
        self._owned()
        with self._lock:
            recording = self.recording(id)
            if recording.is_writing:
                raise Conflict(f"recording {id!r} has an open lane: close it first")
            self.catalog.delete("recording", id, etag)
            self._recordings.pop(recording.uid, None)
            trash = self.root / "trash"
            make_directories(self._files, trash)
            with contextlib.suppress(FileNotFoundError):
                self._files.replace(recording.directory, trash / recording.uid)
            remove_tree(self._files, trash / recording.uid)

    def verify(self) -> list[Problem]:
        """Check every stored byte of every recording; an empty list when all is well."""
        return [problem for recording in self.recordings() for problem in recording.verify()]

    def collect_garbage(self, older_s: float = 86_400.0) -> int:
        """Remove what crashes left behind, and nothing that the catalog knows.

        Args:
            older_s: artifacts that a worker might still be writing are removed at this age only.

        Returns:
            How many files and directories were removed.

        Raises:
            StoreOwned: the store was attached, not opened.
        """
        self._owned()
        with self._lock, storage_errors("garbage cannot be collected"):
            kept = {entry.uid for entry in self.catalog.list("recording")}
            recordings = self.root / "recordings"
            litter = [recordings / n for n in self._files.names(recordings) if n not in kept]
            litter += [self.root / "trash" / n for n in self._files.names(self.root / "trash")]
            for folder in _FOLDERS.values():
                litter += _old_partials(self._files, self.root / folder, older_s)
            for path in litter:
                remove_tree(self._files, path)
            return len(litter) + sum(found.drop_litter() for found in self.recordings())

    def artifact(self, kind: str, uid: str, *more: str) -> Path:
        """Return where the files of an artifact belong; its parent exists, itself need not.

        Args:
            kind: ``dictionary``, ``probe``, ``codes``, ``atlas`` or ``match``.
            uid: from :meth:`Catalog.new_uid`; for codes that of the dictionary.
            more: for codes the uid of the probe.

        Raises:
            InvalidInput: the kind is unknown, or the number of uids does not fit it.
            InvalidName: a uid is none.
        """
        folder = _FOLDERS.get(kind)
        if folder is None or len(more) != (1 if kind == "codes" else 0):
            raise InvalidInput(
                f"artifact({kind!r}) with {1 + len(more)} uids: give one for any of "
                f"{sorted(_FOLDERS)}, two for codes (dictionary, probe)"
            )
        path = self.root / folder / "/".join(check_uid(part) for part in (uid, *more))
        make_directories(self._files, path.parent)
        return path


def _old_partials(files: FileSystem, directory: Path, older_s: float) -> list[Path]:
    found: list[Path] = []
    for name in files.names(directory):
        path = directory / name
        if not files.is_directory(path):
            continue
        if not name.startswith("."):
            found += _old_partials(files, path, older_s)
        elif files.time_s() - files.modified_s(path) > older_s:
            found.append(path)
    return found


def _check_manifest(files: FileSystem, root: Path) -> None:
    try:
        content = read_file(files, root / MANIFEST_NAME)
    except FileNotFoundError as error:
        raise NotFound(f"no store at {root}: create one with Store.open(path)") from error
    signed_json.decode(content, f"{root / MANIFEST_NAME}")
