"""Find a store: its files, its kind of fencing, its manifest, its owner and its catalog."""

import logging
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

from isogloss.errors import Conflict, InvalidInput, NotFound
from isogloss.store.disk import permissions, signed_json
from isogloss.store.disk.filesystem import FileSystem, make_directories, storage_errors
from isogloss.store.ownership.catalog import Catalog
from isogloss.store.ownership.catalog_records import RecordCatalog
from isogloss.store.ownership.epochs import OWNERS, EpochOwnership, epoch_owner
from isogloss.store.ownership.file_system_types import file_system_type, is_shared
from isogloss.store.ownership.lock import LOCK_NAME, SERVER_NAME, Ownership, StoreOwner, lock_owner
from isogloss.store.schema.json_fields import SCHEMA_VERSION

_log = logging.getLogger(__name__)

MANIFEST_NAME = "isogloss.json"
CATALOG_NAME = "catalog.sqlite"
RECORDS_NAME = "catalog"

Fencing = Literal["lock", "create"]
"""How a second owner is kept out: by a lock of the operating system, or exclusive creation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreLocation:
    """A directory or an object store in which a store is, or may be created."""

    files: FileSystem
    """Its files."""

    root: Path
    """Its root among them."""

    address: str
    """As the user gave it."""

    @classmethod
    def find(cls, path: Path | str, files: FileSystem | None = None) -> "StoreLocation":
        """Make the location of a directory or of an object store's address. Opens nothing.

        Args:
            path: the directory's path, or address of the object store.
            files: file operations to use; by default those of the operating system or of the object
                store.

        Returns:
            The location.

        Raises:
            InvalidInput: the address has an unknown scheme.
            MissingExtra: the address is on an object store, and obstore is not installed.
        """
        if files is None and is_object_address(path):
            # obstore is an optional extra: imported only for an address that needs it
            from isogloss.store.disk.object_files import open_url

            return cls(files=open_url(path), root=Path("/"), address=path)
        return cls(files=files or FileSystem(), root=Path(path).absolute(), address=str(path))

    @property
    def lasting_address(self) -> str | None:
        """An address that other processes, wherever they run in, find the store by.

        None where its files are not those of the operating system or of the address.
        """
        if is_object_address(self.address):
            return self.address
        return str(self.root) if type(self.files) is FileSystem else None

    def fencing(self) -> Fencing | None:
        """Return how the store here keeps a second owner out.

        Returns:
            ``lock`` (a file lock) or ``create`` (records that only one process can create); None
            where there is no store.

        Raises:
            CorruptData: the store's manifest cannot be read.
            UnsupportedVersion: a later release made the store.
            InvalidInput: the store has a kind of fencing that this release does not know.
            StorageError: the manifest cannot be read.
        """
        path = self.root / MANIFEST_NAME
        try:
            with storage_errors(f"store {self.address} cannot be read"):
                content = self.files.read_whole(path)
        except FileNotFoundError:
            return None
        match signed_json.decode(content, str(path)).get("fencing", "lock"):
            case "lock":
                return "lock"
            case "create":
                return "create"
            case found:
                raise InvalidInput(
                    f"store {self.address} is fenced by {found!r}, which this release does not "
                    "know: install a newer one"
                )

    def choose_fencing(self, wanted: Fencing | None, there: Fencing | None) -> Fencing:
        """Return how a store that is opened here keeps a second owner out.

        Args:
            wanted: the caller's choice; None: choose by the kind of storage.
            there: fencing of the store that is here already; None where there is none.

        Returns:
            ``lock`` or ``create``.

        Raises:
            Conflict: ``wanted`` and ``there`` differ.
            InvalidInput: locks were wanted on an object store.
        """
        if there is not None:
            if wanted not in (None, there):
                raise Conflict(
                    f"store {self.address} is fenced by {there!r} since it was created, not by "
                    f"{wanted!r}: open it without naming one"
                )
            if there == "lock":
                self._warn()
            return there
        if self.files.is_remote:
            if wanted == "lock":
                raise InvalidInput(f'store {self.address} has no locks: use fencing="create"')
            return "create"
        if wanted is None:
            return "create" if is_shared(self._type()) else "lock"
        if wanted == "lock":
            self._warn()
        return wanted

    def _type(self) -> str:
        return file_system_type(self.root)

    def _warn(self) -> None:
        kind = "" if self.files.is_remote else self._type()
        if is_shared(kind):
            _log.warning(
                "store %s is on %s, whose locks may not hold between machines: let one machine "
                'use it, or copy it to a store created with fencing="create"',
                self.address,
                kind,
            )

    def make_root(self) -> None:
        """Create the root directory if it does not exist.

        Raises:
            InvalidInput: the directory holds something other than a store.
        """
        ours = {LOCK_NAME, SERVER_NAME, CATALOG_NAME, RECORDS_NAME, OWNERS, "recordings"}
        with storage_errors(f"store {self.address} cannot be created"):
            names = self.files.names(self.root)
            foreign = [name for name in names if name not in ours and not name.startswith(".")]
            if foreign:
                raise InvalidInput(
                    f"{self.address} is no store and holds {foreign[0]!r}: choose an empty "
                    "directory"
                )
            make_directories(self.files, self.root)
            self.files.set_permissions(self.root, permissions.PRIVATE)

    def check_group(self, group: str) -> None:
        """Refuse a group that the store here cannot be shared with.

        Raises:
            InvalidInput: there is no such group; or the store is on an object store, which has no
                groups.
            NotPermitted: this process is not a member of the group.
        """
        if self.files.is_remote:
            raise InvalidInput(
                f"group is {group!r}, and store {self.address} is on an object store: who reads it "
                "is set there"
            )
        permissions.group_id(group)

    def share(self, group: str) -> None:
        """Let a group read the store here, and what is written to it later.

        Raises:
            InvalidInput: there is no such group.
            NotPermitted: this process is not a member of the group.
            StorageError: the permissions cannot be changed.
        """
        with storage_errors(f"store {self.address} cannot be shared with group {group!r}"):
            permissions.share(self.root, permissions.group_id(group))

    def warn_if_open(self) -> None:
        """Log a warning where other users than the store's own and its group may enter it."""
        if not self.files.is_remote and self.files.can_map:
            mode = stat.S_IMODE(self.root.stat().st_mode)
            if mode & stat.S_IXOTH:
                _log.warning(
                    "store %s has mode %o, so every user of this machine may read what its files "
                    "allow: `chmod 700 %s`, or serve it with --group",
                    self.address,
                    mode,
                    self.address,
                )

    def own(self, fencing: Fencing, *, force: bool, lease_s: float) -> Ownership | EpochOwnership:
        """Become the owner of the store here; StoreOwned when another process is."""
        if fencing == "lock":
            return Ownership(self.files, self.root)
        return EpochOwnership(self.files, self.root, force=force, lease_s=lease_s)

    def write_manifest(self, fencing: Fencing) -> None:
        """Write the manifest of a new store, and create ``recordings/``. The owner calls this.

        Args:
            fencing: how the store keeps a second owner out.

        Raises:
            Conflict: another process created a store here meanwhile, with the other fencing.
        """
        if self.fencing() is None:
            manifest: dict[str, object] = {
                "schema_version": SCHEMA_VERSION,
                "uid": Catalog.new_uid(),
            }
            path = self.root / MANIFEST_NAME
            with storage_errors(f"store {self.address} cannot be created"):
                if fencing == "lock":
                    self.files.write_atomic(path, signed_json.encode(manifest))
                else:
                    content = signed_json.encode({**manifest, "fencing": fencing})
                    self.files.create_record(path, content)
        with storage_errors(f"store {self.address} cannot be created"):
            make_directories(self.files, self.root / "recordings")
        found = self.fencing()
        if found != fencing:
            raise Conflict(
                f"store {self.address} was created meanwhile, fenced by {found!r}: open it again"
            )

    def catalog(self, fencing: Fencing) -> Catalog:
        """Open the catalog of the store here."""
        if fencing == "lock":
            return Catalog(self.root / CATALOG_NAME)
        return RecordCatalog(self.files, self.root / RECORDS_NAME)

    def existing_fencing(self) -> Fencing:
        """Return how the store here keeps a second owner out; NotFound where there is no store."""
        found = self.fencing()
        if found is None:
            raise NotFound(f"no store at {self.address}: create one with Store.open(path)")
        return found


def is_object_address(path: Path | str) -> TypeGuard[str]:
    """Whether this is meant as the address of an object store, such as ``s3://bucket``."""
    return isinstance(path, str) and "://" in path


def store_owner(path: Path | str) -> StoreOwner | None:
    """Return who owns a store now; None when nobody does, or there is no store.

    In a store without locks an owner that died on another machine is still named, until the store
    is opened and its lease has run out.
    """
    location = StoreLocation.find(path)
    if location.fencing() == "create":
        with storage_errors(f"the owner of store {location.address} cannot be read"):
            return epoch_owner(location.files, location.root)
    return None if location.files.is_remote else lock_owner(location.files, location.root)
