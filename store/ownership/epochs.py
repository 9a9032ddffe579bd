"""Owning a store without locks: each owner takes the next epoch by exclusive creation.

``owners/<epoch>`` is created once. The owner rewrites ``owners/<epoch>.beat`` three times in each
lease. A process that wants the store reads the beat of the newest epoch for a whole lease by its
own clock; if it does not change, the process takes the next epoch. The clocks of two machines are
never compared. An owner that was stopped for a while finds a newer epoch when it goes on, and its
lanes fenced, so it cannot acknowledge anything any more.
"""

import contextlib
import json
import logging
import math
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import CorruptData, Fenced, InvalidInput, IsoglossError, StoreOwned
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import NO_LINKS, FileSystem, make_directories, storage_errors
from isogloss.store.ownership.lock import StoreOwner, owned_message
from isogloss.store.schema.json_fields import SCHEMA_VERSION

_log = logging.getLogger(__name__)

OWNERS = "owners"
_LONGEST_LEASE_S = 7 * 86_400.0
"""A longer lease in a beat is damage, and must not make the next owner wait."""

LEASE_S = 30.0
"""Seconds without a new beat after which an owner may be replaced."""
_BEATS = 3
"""Beats in a lease."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Beat:
    """Content of an owner's beat file, by which it shows that it lives."""

    owner: StoreOwner
    """Who it is."""

    place: str
    """Machine, start of its system, and process namespace: where the process id means something."""

    lease_s: float
    """For how many seconds others wait for the next beat before they take the store over."""

    beats: int
    """Number of beats so far."""

    is_released: bool
    """Whether it gave the store up."""

    started: int
    """When the process started, in ticks since its system did: ids of processes are used again."""

    @property
    def is_here(self) -> bool:
        """Whether the owner runs or ran on this machine, where its process can be looked for."""
        return bool(self.place) and self.place == _place()

    @property
    def is_gone(self) -> bool:
        """Whether the owner gave the store up, or its process is known to have ended."""
        return self.is_released or (self.is_here and _started(self.owner.pid) != self.started)


def _started(pid: int) -> int:
    """Return when a process of this machine started, see proc(5); 0 where it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    state, *rest = text.rpartition(") ")[2].split(" ")
    return 0 if state in ("Z", "X") else int(rest[18])


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


class EpochOwnership:
    """Owns a store until it is closed, or another process takes the next epoch.

    Args:
        files: the file system that the store is on.
        root: the store's root directory.
        force: take the store over although its owner may live.
        lease_s: seconds without a new beat after which others may take over; with infinity nobody
            ever may, and the beat is written once.

    Raises:
        StoreOwned: another process owns the store and lives.
        InvalidInput: the lease is not positive, or the file system has no hard links.
        StorageError: the storage refuses.
    """

    def __init__(
        self, files: FileSystem, root: Path, *, force: bool = False, lease_s: float = LEASE_S
    ) -> None:
        if not lease_s > 0:
            raise InvalidInput(f"lease_s {lease_s} must be positive")
        self._files = files
        self._root = root
        self._lease_s = lease_s
        self._address: str | None = None
        self._beats = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        with storage_errors(f"store {root} cannot be owned"):
            make_directories(files, root / OWNERS)
            self.epoch = self._take(force=force)
            """Number of this ownership; each is higher than all before."""
            self._beat()
        self._thread: threading.Thread | None = None
        if math.isfinite(lease_s):
            self._thread = threading.Thread(
                target=self._live, name="isogloss-heartbeat", daemon=True
            )
            self._thread.start()

    def _take(self, *, force: bool) -> int:
        while True:
            latest = latest_epoch(self._files, self._root)
            if latest and not force:
                wait_for_owner(self._files, self._root, latest)
            epoch = latest + 1
            nonce = {"schema_version": SCHEMA_VERSION, "nonce": secrets.token_hex(16)}
            try:
                self._files.create_record(_record(self._root, epoch), signed_json.encode(nonce))
            except FileExistsError:
                continue  # another one took it: see whether that one lives
            except OSError as error:
                if error.errno in NO_LINKS:
                    raise InvalidInput(
                        f"the file system of {self._root} has no hard links ({error}): choose "
                        'fencing="lock", an object store, or another directory'
                    ) from error
                raise
            if latest_epoch(self._files, self._root) == epoch:
                self._forget_before(epoch)
                return epoch
            with contextlib.suppress(OSError):
                self._files.remove(_record(self._root, epoch))

    def _forget_before(self, epoch: int) -> None:
        for name in self._files.names(self._root / OWNERS):
            number = name.partition(".")[0]
            if number.isdigit() and int(number) < epoch:
                with contextlib.suppress(OSError):
                    self._files.remove(self._root / OWNERS / name)

    def _beat(self, *, is_released: bool = False) -> None:
        with self._lock:
            self._beats += 1
            owner = StoreOwner(
                pid=os.getpid(), host=socket.gethostname(), address=self._address
            ).to_dict()
            document = {
                **owner,
                "place": _place(),
                "started": _started(os.getpid()),
                "lease_s": self._lease_s if math.isfinite(self._lease_s) else 0,
                "beats": self._beats,
                "is_released": is_released,
            }
            path = _beat_path(self._root, self.epoch)
            self._files.write_atomic(path, json.dumps(document, indent=1).encode())

    def _live(self) -> None:
        while not self._wake.wait(self._lease_s / _BEATS):
            try:
                if latest_epoch(self._files, self._root) != self.epoch:
                    _log.error("store %s: a newer owner took over epoch %d", self._root, self.epoch)
                    return
                self._beat()
            except OSError as error:
                _log.warning("store %s: its beat could not be written: %s", self._root, error)

    def check(self) -> None:
        """Make sure that this process still owns the store.

        Raises:
            Fenced: another one took it over.
            StorageError: that could not be found out.
        """
        with storage_errors(f"the owner of store {self._root} cannot be read"):
            latest = latest_epoch(self._files, self._root)
        if latest != self.epoch:
            raise Fenced(
                f"store {self._root} was taken over: this process owned epoch {self.epoch}, now "
                f"epoch {latest} does; close it and open it again"
            )

    def set_server(self, address: str | None) -> None:
        """Write to the beat file where this owner's server answers; None when it has none."""
        self._address = address
        with storage_errors(f"store {self._root}: its address cannot be written"):
            self._beat()

    def close(self) -> None:
        """Give the store up: the last beat says so. Later calls do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError, IsoglossError):
            if latest_epoch(self._files, self._root) == self.epoch:
                self._beat(is_released=True)


def _record(root: Path, epoch: int) -> Path:
    return root / OWNERS / f"{epoch:016d}"


def _beat_path(root: Path, epoch: int) -> Path:
    return root / OWNERS / f"{epoch:016d}.beat"


def latest_epoch(files: FileSystem, root: Path) -> int:
    """Return the newest epoch of a store; 0 when it never had an owner."""
    names = files.names(root / OWNERS)
    return max((int(name) for name in names if name.isdigit()), default=0)


def _read_beat(files: FileSystem, root: Path, epoch: int) -> _Beat | None:
    try:
        content = files.read_whole(_beat_path(root, epoch))
        document = signed_json.parse(content, f"owner {epoch} of store {root}")
    except (FileNotFoundError, IsADirectoryError, CorruptData):
        return None
    lease_s, beats = document.get("lease_s"), document.get("beats")
    started = document.get("started")
    return _Beat(
        owner=StoreOwner.from_dict(document),
        place=str(document.get("place", "")),
        lease_s=_lease(lease_s),
        beats=beats if isinstance(beats, int) else 0,
        started=started if isinstance(started, int) else 0,
        is_released=document.get("is_released") is True,
    )


def _lease(found: object) -> float:
    """Return the lease that a beat names; the default where it names none that can be waited for.

    A lease of 0 stands for one without end, whose owner is never waited for.
    """
    if isinstance(found, bool) or not isinstance(found, int | float):
        return LEASE_S
    return float(found) if 0 <= found <= _LONGEST_LEASE_S else LEASE_S


def wait_for_owner(files: FileSystem, root: Path, epoch: int) -> None:
    """Return once the owner of an epoch is gone, or wrote no new beat for a whole lease.

    An owner whose process runs on this machine counts as alive however old its beat is.

    Args:
        files: the file system that the store is on.
        root: the store's root directory.
        epoch: the newest.

    Raises:
        StoreOwned: the owner is alive.
    """
    first = _read_beat(files, root, epoch)
    lease_s = LEASE_S if first is None else first.lease_s
    if first is not None and first.is_gone:
        return
    if first is not None and (first.is_here or not lease_s):
        raise StoreOwned(owned_message(root, first.owner))
    end = time.monotonic() + lease_s
    while time.monotonic() < end:
        time.sleep(min(1.0, lease_s / 20))
        now = _read_beat(files, root, epoch)
        if now is not None and now.is_gone:
            return
        if now is not None and (first is None or now.beats != first.beats):
            raise StoreOwned(owned_message(root, now.owner))


def epoch_owner(files: FileSystem, root: Path) -> StoreOwner | None:
    """Return the owner of the newest epoch; None where there was never one, or it is gone."""
    latest = latest_epoch(files, root)
    beat = _read_beat(files, root, latest) if latest else None
    if beat is None:
        return StoreOwner(pid=0, host="", address=None) if latest else None
    return None if beat.is_gone else beat.owner
