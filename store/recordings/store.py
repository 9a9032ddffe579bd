"""The store: one root, one owner, everything below it."""

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    StorageError,
    StoreOwned,
)
from isogloss.store.disk.filesystem import FileSystem, make_directories, storage_errors
from isogloss.store.ownership.catalog import Catalog, CatalogEntry
from isogloss.store.ownership.catalog_records import RecordCatalog
from isogloss.store.ownership.epochs import LEASE_S, OWNERS, EpochOwnership
from isogloss.store.ownership.location import Fencing, StoreLocation
from isogloss.store.ownership.lock import Ownership
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.recordings.recording import Recording
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.schema.names import check_uid
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.layout import DEFAULT_SHARD_BYTES
from isogloss.store.upkeep.verify import Problem

_log = logging.getLogger(__name__)

_FOLDERS = {
    "dictionary": "dictionaries",
    "probe": "probes",
    "codes": "codes",
    "atlas": "atlases",
    "match": "matches",
}


class Store:
    """A root directory and what is in it. Made by :meth:`open` or :meth:`attach`."""

    def __init__(
        self,
        location: StoreLocation,
        fencing: Fencing,
        ownership: Ownership | EpochOwnership | None,
    ) -> None:
        self.root = location.root
        """Where the store lies; on an object store its place below the address."""
        self.address = location.address
        """As it was opened: a path, or the address of an object store."""
        self.is_remote = location.files.is_remote
        """Whether it lies on an object store: it holds recordings only, and ``root`` is no path."""
        self.fencing: Fencing = fencing
        """What keeps a second owner out."""
        self._files = location.files
        self._ownership = ownership
        self._lock = threading.RLock()
        self._recordings: dict[str, Recording] = {}
        self.catalog = location.catalog(fencing)
        """What the store holds, by kind and id."""

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        create: bool = True,
        files: FileSystem | None = None,
        fencing: Fencing | None = None,
        force: bool = False,
        lease_s: float = LEASE_S,
    ) -> "Store":
        """Open a store and own it until it is closed.

        Args:
            path: root directory, or an address such as ``s3://bucket/prefix``, ``gs://…``,
                ``az://…`` (extra ``cloud``).
            create: make a new store where there is none.
            files: the operating system's files, or those of the address, by default.
            fencing: what keeps a second owner out of a new store: ``lock`` on local disks,
                ``create`` where machines share the storage; None to decide by its kind.
            force: take over a store fenced by ``create`` although its owner may live; what that one
                acknowledged stays, and it can acknowledge nothing more.
            lease_s: where fenced by ``create``, how long others wait for a sign of life of this
                process before they take over. Opening waits that long for an owner that died on
                another machine.

        Returns:
            The store.

        Raises:
            StoreOwned: another process owns it; the message names its pid and address.
            NotFound: there is no store and ``create`` is false.
            InvalidInput: the directory holds something else, or the address is of an unknown kind.
            Conflict: the store is fenced in the other way.
            MissingExtra: the address is on an object store, and obstore is not installed.
        """
        location = StoreLocation.find(path, files)
        there = location.fencing()
        if there is None:
            if not create:
                location.existing_fencing()
            location.make_root()
        chosen = location.choose_fencing(fencing, there)
        ownership = location.own(chosen, force=force, lease_s=lease_s)
        try:
            location.write_manifest(chosen)
            store = cls(location, chosen, ownership)
            if chosen == "create":
                store._fence()
        except BaseException:
            ownership.close()
            raise
        return store

    def _fence(self) -> None:
        """End the lanes that an earlier owner may still be writing.

        A recording that cannot be read is logged and left as it is: it raises when it is used.
        """
        for entry in self.catalog.list("recording"):
            try:
                self._recording(entry).lanes()
            except (StorageError, NotFound) as error:
                _log.error("store %s: recording %s: %s", self.address, entry.id, error)

    @classmethod
    def attach(cls, path: Path | str, *, files: FileSystem | None = None) -> "Store":
        """Open a store that another process may own: reads everything committed.

        Recordings cannot be changed through it; artifact directories and the catalog can.

        Args:
            path: root directory, or an address as for :meth:`open`.
            files: the operating system's files, or those of the address, by default.

        Returns:
            The store.

        Raises:
            NotFound: there is no store.
            MissingExtra: it is on an object store, and obstore is not installed.
        """
        location = StoreLocation.find(path, files)
        return cls(location, location.existing_fencing(), None)

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

    def check_owner(self) -> None:
        """Make sure that this process owns the store.

        Raises:
            StoreOwned: the store was attached, not opened.
            Fenced: another owner took it over.
        """
        self._owned()

    def _owned(self) -> Ownership | EpochOwnership:
        if self._ownership is None:
            raise StoreOwned(f"store {self.address} was attached, not opened: only its owner may")
        self._ownership.check()
        return self._ownership

    def create_recording(
        self,
        spec: RecordingSpec,
        vocabulary: Sequence[str],
        *,
        shard_bytes: int = DEFAULT_SHARD_BYTES,
    ) -> Recording:
        """Create a recording. Where an equal one exists, return that, to go on with it.

        Args:
            spec: what will be recorded.
            vocabulary: token strings; token id i is the i-th.
            shard_bytes: about how large a shard file becomes.

        Returns:
            The recording.

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
                known = self._new_recording(entry)
                self._recordings[entry.uid] = known
            known.etag = entry.etag
            return known

    def _new_recording(self, entry: CatalogEntry) -> Recording:
        directory = self.root / "recordings" / check_uid(entry.uid)
        if self.fencing == "lock":
            return Recording(
                files=self._files, directory=directory, etag=entry.etag, is_owner=self.is_owner
            )
        ownership = self._ownership
        return FencedRecording(
            files=self._files,
            directory=directory,
            etag=entry.etag,
            ownership=ownership if isinstance(ownership, EpochOwnership) else None,
        )

    def recording(self, id: str) -> Recording:  # noqa: A002 - the word for it everywhere
        """Return a recording; NotFound when there is none."""
        return self._recording(self.catalog.get("recording", id))

    def recordings(self) -> list[Recording]:
        """Return all recordings, by id."""
        return [self._recording(entry) for entry in self.catalog.list("recording")]

    def delete_recording(self, id: str, etag: str | None = None) -> None:  # noqa: A002 - as above
        """Delete a recording with all its rows.

        Args:
            id: the recording's id.
            etag: etag of the recording as it was read; None to delete it whatever changed.

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
            if self._files.is_remote:  # a rename on an object store copies every object
                # the description first: readers then report that the recording was deleted
                self._files.remove(recording.directory / "recording.json")
                self._files.remove_tree(recording.directory)
                return
            trash = self.root / "trash"
            make_directories(self._files, trash)
            with contextlib.suppress(FileNotFoundError):
                self._files.replace(recording.directory, trash / recording.uid)
            self._files.remove_tree(trash / recording.uid)

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
            litter = [
                recordings / name
                for name in self._files.names(recordings)
                if name not in kept and self._is_left_behind(recordings / name, older_s)
            ]
            litter += [self.root / "trash" / n for n in self._files.names(self.root / "trash")]
            for folder in _FOLDERS.values():
                litter += _old_partials(self._files, self.root / folder, older_s)
            if isinstance(self.catalog, RecordCatalog):
                litter += self.catalog.litter(older_s)
                for directory in (self.root, self.root / OWNERS):
                    litter += _old_partial_files(self._files, directory, older_s)
            for path in litter:
                self._files.remove_tree(path)
            return len(litter) + sum(found.drop_litter(older_s) for found in self.recordings())

    def _is_left_behind(self, path: Path, older_s: float) -> bool:
        """Whether a recording that is not in the catalog is too old to be in creation."""
        if self.fencing == "lock":
            return True
        return self._files.time_s() - self._files.modified_s(path) > older_s

    def check_artifacts(self) -> None:
        """Refuse where the store cannot hold dictionaries, probes, codes and matches.

        Raises:
            InvalidInput: it lies on an object store.
        """
        if self.is_remote:
            raise InvalidInput(
                f"store {self.address} holds recordings only: keep dictionaries, probes, codes and "
                "matches in a store in a directory"
            )

    def artifact(self, kind: str, uid: str, *more: str) -> Path:
        """Return where the files of an artifact belong; its parent exists, itself need not.

        Args:
            kind: ``dictionary``, ``probe``, ``codes``, ``atlas`` or ``match``.
            uid: from :meth:`Catalog.new_uid`; for codes that of the dictionary.
            *more: for codes the uid of the probe.

        Returns:
            The path.

        Raises:
            InvalidInput: the kind is unknown, the number of uids does not fit it, or the store lies
                on an object store.
            InvalidName: a uid has another form.
        """
        self.check_artifacts()
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


def _old_partial_files(files: FileSystem, directory: Path, older_s: float) -> list[Path]:
    return [
        directory / name
        for name in files.names(directory)
        if name.startswith(".")
        and name.endswith(".partial")
        and files.time_s() - files.modified_s(directory / name) > older_s
    ]
