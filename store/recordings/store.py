"""A store: one root directory with recordings, dictionaries, probes and matches, and one owner."""

import logging
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    StorageError,
    StorageFull,
    StoreOwned,
)
from isogloss.store.disk.filesystem import (
    FULL_ERRNOS,
    FileSystem,
    make_directories,
    storage_errors,
)
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.ownership.catalog import Catalog, CatalogEntry
from isogloss.store.ownership.catalog_records import RecordCatalog
from isogloss.store.ownership.epochs import LEASE_S, OWNERS, EpochOwnership
from isogloss.store.ownership.location import Fencing, StoreLocation
from isogloss.store.ownership.lock import Ownership
from isogloss.store.ownership.reserve import spend_reserve
from isogloss.store.reading.reader import RecordingReader
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.recordings.recording import Recording
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.schema.names import check_uid
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.schema.revision import Revision
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
    """A store: a root directory with all that is below it.

    Made by :meth:`open` or :meth:`attach`.
    """

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
        self._lasting_address = location.lasting_address
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
        group: str | None = None,
    ) -> "Store":
        """Open a store as its owner. No other process can own it until it is closed.

        Args:
            path: root directory, or an address such as ``s3://bucket/prefix``, ``gs://…``,
                ``az://…`` (extra ``cloud``).
            create: whether to make a new store where there is none.
            files: file operations to use; by default those of the storage itself.
            fencing: how a new store keeps a second owner out: ``lock`` (a file lock, on local
                disks) or ``create`` (records that only one process can create, on storage that
                machines share). None: chosen by the kind of storage.
            force: take over a store with ``create`` fencing although its owner may still run. What
                that owner acknowledged stays, and it can acknowledge nothing more.
            lease_s: with ``create`` fencing, for how many seconds other processes wait for a sign
                of life of this one before they take the store over. Opening waits that long if the
                last owner died on another machine.
            group: name of a group that may read the store's files, now and later; None: as it was.

        Returns:
            The store.

        Raises:
            StoreOwned: another process owns the store; the message names its pid and address.
            NotFound: there is no store and ``create`` is false.
            InvalidInput: the directory holds something other than a store, or the address is of an
                unknown kind.
            Conflict: the store exists with the other fencing than the one given.
            MissingExtra: the address is on an object store, and obstore is not installed.
            NotPermitted: this process is not a member of the group.
            StorageFull: there is no room, and the store has no reserve that could be given up.
            StorageError: the storage refused.
        """
        location = StoreLocation.find(path, files)
        opening = partial(
            cls._open, location, create=create, fencing=fencing, force=force, lease_s=lease_s
        )
        with storage_errors(f"store {location.address} cannot be opened"):
            try:
                return opening(group=group)
            except OSError as error:
                is_full = isinstance(error, StorageFull) or error.errno in FULL_ERRNOS
                if not is_full or location.files.is_remote or not spend_reserve(location.root):
                    raise
            return opening(group=group)

    @classmethod
    def _open(
        cls,
        location: StoreLocation,
        *,
        create: bool,
        fencing: Fencing | None,
        force: bool,
        lease_s: float,
        group: str | None,
    ) -> "Store":
        """Open a store as its owner; errors as for :meth:`open`."""
        there = location.fencing()
        if group is not None:
            location.check_group(group)  # before a store is made
        if there is None:
            if not create:
                location.existing_fencing()
            location.make_root()
        chosen = location.choose_fencing(fencing, there)
        ownership = location.own(chosen, force=force, lease_s=lease_s)
        try:
            if group is not None:
                location.share(group)
            location.warn_if_open()
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
        """Open a store for reading, also while another process owns it.

        Recordings can be read but not changed. Directories of dictionaries, probes and matches, and
        the catalog, can be changed.

        Args:
            path: root directory, or an address as for :meth:`open`.
            files: file operations to use; by default those of the operating system or of the object
                store.

        Returns:
            The store.

        Raises:
            NotFound: there is no store.
            MissingExtra: the address is on an object store, and obstore is not installed.
        """
        location = StoreLocation.find(path, files)
        return cls(location, location.existing_fencing(), None)

    def close(self) -> None:
        """Close the open lanes and the catalog, and give up the store. Later calls do nothing."""
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

    def check_writable(self) -> None:
        """Raise an error unless the storage takes new bytes now: writes a small file, removes it.

        Raises:
            StorageFull: so little is free that lanes take no rows, or there is no room at all.
            StorageError: the file could not be written or synced.
        """
        with storage_errors(f"store {self.address} cannot be written"):
            limits = LaneLimits()
            limits.check(self._files, self.root, rows=0, row_bytes=0, more_rows=0)
            path = self.root / ".writable"
            self._files.write_whole(path, [b"yes"])
            self._files.remove(path)

    def set_server(self, address: str | None) -> None:
        """Write this owner's address to ``server.json``; StoreOwned if it is not the owner."""
        self._owned().set_server(address)

    def check_owner(self) -> None:
        """Raise an error unless this process owns the store.

        Raises:
            StoreOwned: the store was attached, not opened.
            Fenced: another process took the store over.
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
        """Create a recording. Where an equal one exists already, return that one.

        Args:
            spec: id, model, tokenizer, corpus and sites of the recording.
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
        address = self._lasting_address
        reopen = None if address is None else partial(reopen_reader, address, entry.uid)
        if self.fencing == "lock":
            return Recording(
                files=self._files,
                directory=directory,
                etag=entry.etag,
                is_owner=self.is_owner,
                reopen=reopen,
            )
        ownership = self._ownership
        return FencedRecording(
            files=self._files,
            directory=directory,
            etag=entry.etag,
            ownership=ownership if isinstance(ownership, EpochOwnership) else None,
            reopen=reopen,
        )

    def recording(self, id: str) -> Recording:  # noqa: A002 - the word for it everywhere
        """Return the recording with an id; NotFound where there is none."""
        return self._recording(self.catalog.get("recording", id))

    def recordings(self) -> list[Recording]:
        """Return all recordings, sorted by id."""
        found: list[Recording] = []
        for entry in self.catalog.list("recording"):
            try:
                found.append(self._recording(entry))
            except NotFound:
                now = self.catalog.find("recording", entry.id)
                if now is not None and now.uid == entry.uid:
                    raise
                # it was deleted since the catalog was read
        return found

    def delete_recording(self, id: str, etag: str | None = None) -> None:  # noqa: A002 - as above
        """Delete a recording with all its rows.

        Args:
            id: the recording's id.
            etag: etag of the recording as it was read; None: delete it even if it changed since.

        Raises:
            NotFound: there is no recording with that id.
            Conflict: the recording changed since ``etag`` was read, or a lane of it is open in this
                process.
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
            with storage_errors(f"files of recording {id!r}, which is deleted, cannot be removed"):
                try:
                    make_directories(self._files, trash)
                    self._files.replace(recording.directory, trash / recording.uid)
                except FileNotFoundError:
                    pass
                except OSError:  # there may be no room even for a name
                    self._files.remove(recording.directory / "recording.json")
                    self._files.remove_tree(recording.directory)
                self._files.remove_tree(trash / recording.uid)

    def verify(self) -> list[Problem]:
        """Compare every stored byte with its checksum; return the problems found."""
        return [problem for recording in self.recordings() for problem in recording.verify()]

    def collect_garbage(self, older_s: float = 86_400.0) -> int:
        """Remove files that crashes left behind; nothing that the catalog lists.

        Args:
            older_s: leave directories of dictionaries, probes and matches that were changed less
                than so many seconds ago, since a worker may be writing them.

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
            litter += _old_partial_files(self._files, self.root, older_s)
            for folder in _FOLDERS.values():
                litter += _old_partials(self._files, self.root / folder, older_s)
            if isinstance(self.catalog, RecordCatalog):
                litter += self.catalog.litter(older_s)
                litter += _old_partial_files(self._files, self.root / OWNERS, older_s)
            kept_recordings = self.recordings()
        # Not under the lock: what is removed here nothing names any more, and calls go on.
        with storage_errors("garbage cannot be collected"):
            for path in litter:
                self._files.remove_tree(path)
            return len(litter) + sum(self._drop_litter(r, older_s) for r in kept_recordings)

    def _drop_litter(self, recording: Recording, older_s: float) -> int:
        try:
            return recording.drop_litter(older_s)
        except NotFound:  # it was deleted meanwhile
            return 0

    def _is_left_behind(self, path: Path, older_s: float) -> bool:
        """Whether a recording that is not in the catalog is too old to be in creation."""
        if self.fencing == "lock":
            return True
        return self._files.time_s() - self._files.modified_s(path) > older_s

    def check_artifacts(self) -> None:
        """Raise InvalidInput where the store cannot hold dictionaries, probes, codes and matches.

        Raises:
            InvalidInput: the store is on an object store.
        """
        if self.is_remote:
            raise InvalidInput(
                f"store {self.address} holds recordings only: keep dictionaries, probes, codes and "
                "matches in a store in a directory"
            )

    def artifact(self, kind: str, uid: str, *more: str) -> Path:
        """Return the directory for the files of a dictionary, a probe, codes, an atlas or a match.

        The directory above it exists; the directory itself need not.

        Args:
            kind: ``dictionary``, ``probe``, ``codes``, ``atlas`` or ``match``.
            uid: from :meth:`Catalog.new_uid`; for codes the uid of the dictionary.
            *more: for codes the uid of the probe; else nothing.

        Returns:
            The path.

        Raises:
            InvalidInput: the kind is unknown, there are too few or too many uids, or the store is
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


def reopen_reader(address: str, uid: str, revision: Revision) -> RecordingReader:
    """Read a recording in a process that only knows where it is: what a pickled reader becomes.

    Args:
        address: a directory's absolute path, or the address of an object store.
        uid: of the recording.
        revision: the revision to read.

    Returns:
        A reader with files of its own.

    Raises:
        NotFound: the store, the recording or one of the revision's lanes is gone.
    """
    with Store.attach(address) as store:
        for entry in store.catalog.list("recording"):
            if entry.uid == uid:
                return store.recording(entry.id).reader(revision)
    raise NotFound(f"store {address} has no recording with uid {uid}: it was deleted")


def _old_partials(files: FileSystem, directory: Path, older_s: float) -> list[Path]:
    found: list[Path] = []
    for name in files.names(directory):
        path = directory / name
        if name.startswith("."):
            is_partial = name.endswith((".partial", ".old")) or files.is_directory(path)
            if is_partial and _age_s(files, path) > older_s:
                found.append(path)
        elif files.is_directory(path):
            found += _old_partials(files, path, older_s)
    return found


def _old_partial_files(files: FileSystem, directory: Path, older_s: float) -> list[Path]:
    return [
        directory / name
        for name in files.names(directory)
        if name.startswith(".")
        and name.endswith((".partial", ".writable"))
        and _age_s(files, directory / name) > older_s
    ]


def _age_s(files: FileSystem, path: Path) -> float:
    """Return how many seconds ago a path was last changed; -1 where it is gone by now."""
    try:
        return files.time_s() - files.modified_s(path)
    except FileNotFoundError:
        return -1.0
