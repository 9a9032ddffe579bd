"""Files on an object store, as far as the store needs them: whole PUTs, ranges, creation.

Read-after-write consistency is assumed, of listings too, as Amazon S3, Google Cloud Storage and
Azure Blob Storage give it, and ``If-None-Match: *`` (conditional creation), which all three have.
Objects appear whole or not at all, and are durable when the request is answered, so the many syncs
of disks do nothing here. There are no locks and no mappings.
"""

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, MissingExtra
from isogloss.store.disk.filesystem import Buffer, FileSystem, UncertainRecord

try:
    import obstore
    from obstore import exceptions
    from obstore.store import ObjectStore, from_url
except ImportError as error:
    raise MissingExtra(
        "stores on object stores need obstore, which is not installed: pip install isogloss[cloud]"
    ) from error

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
"""What the address of a store on an object store begins with."""
_SMALL_BYTES = 256 << 10
"""Objects up to this size are fetched whole when a part of them is asked for."""
_PART_BYTES = 16 << 20
"""Larger content goes up in parts of this size."""
_TIMEOUT_S = 60.0
_RETRIES = 8
_NO_ROOM = 1 << 62

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Object:
    """An object that is open."""

    key: str
    size: int = 0
    content: bytes | None = None
    """All of it, where it is small and was read."""
    written: list[bytes] | None = None
    """Bytes of a new object that was not put yet; None for an object that exists."""


class ObjectFiles(FileSystem):
    """The objects below a prefix as files. Every failure is an ``OSError``.

    Args:
        store: an object store of obstore; its own prefix is the root.
    """

    can_map = False
    is_remote = True

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        """The object store."""
        self._open: dict[int, _Object] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def _new(self, found: _Object) -> int:
        with self._lock:
            number = next(self._numbers)
            self._open[number] = found
        return number

    def _of(self, descriptor: int) -> _Object:
        with self._lock:
            found = self._open.get(descriptor)
        if found is None:
            raise OSError(errno.EBADF, f"object {descriptor} is not open")
        return found

    def _call(self, what: Path | str, request: Callable[[], T]) -> T:
        """Make a request; its errors become those of files."""
        try:
            return request()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, f"no object {what}") from error
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
            raise FileExistsError(errno.EEXIST, f"object {what} is there already") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise PermissionError(errno.EACCES, f"object {what}: {_brief(error)}") from error
        except exceptions.BaseError as error:
            raise OSError(errno.EIO, f"object {what}: {_brief(error)}") from error

    def create(self, path: Path, mode: int | None = None) -> int:
        """Begin an object, which appears when it is synced; it has no permissions."""
        return self._new(_Object(key=_key(path), written=[]))

    def open(self, path: Path, *, write: bool = False) -> int:
        """Open an object for reading; an object that exists is never written again."""
        key = _key(path)
        meta = self._call(path, lambda: obstore.head(self.store, key))
        return self._new(_Object(key=key, size=meta["size"]))

    def close(self, descriptor: int) -> None:
        """Close an object; what was not synced is given up."""
        with self._lock:
            self._open.pop(descriptor, None)

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Add to the end of a new object."""
        found = self._of(descriptor)
        if found.written is None or offset != found.size:
            raise OSError(errno.ESPIPE, f"object {found.key} can only be written once, in order")
        pieces = [_bytes(buffer) for buffer in buffers]
        found.written += pieces
        found.size += sum(len(piece) for piece in pieces)

    def sync_data(self, descriptor: int) -> None:
        """Put a new object, which must not be there yet; others are durable already."""
        found = self._of(descriptor)
        if found.written is not None:
            content, found.written = b"".join(found.written), None
            self._put_new(found.key, content)

    def sync_together(self, descriptors: Sequence[int]) -> None:
        """Put new objects."""
        for descriptor in descriptors:
            self.sync_data(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """Extend a new object with zeros; refuse all else, since an object never changes."""
        found = self._of(descriptor)
        if found.size == length:
            return
        if found.written is None or length < found.size:
            raise OSError(errno.ESPIPE, f"object {found.key} cannot be cut")
        self.write(descriptor, [bytes(length - found.size)], found.size)

    def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
        """Fill ``buffer`` from ``offset``; CorruptData when the object ends before, or is gone."""
        found = self._of(descriptor)
        if offset + len(buffer) > found.size:
            raise CorruptData(
                f"object {found.key} ends at {found.size}, "
                f"{offset + len(buffer) - found.size} bytes too early"
            )
        if not len(buffer):
            return
        try:
            if found.size <= _SMALL_BYTES and len(buffer) < found.size:
                if found.content is None:
                    found.content = self._get(found.key)
                part: Buffer = memoryview(found.content)[offset : offset + len(buffer)]
            else:
                part = self._get_range(found.key, offset, len(buffer))
        except FileNotFoundError as error:
            raise CorruptData(f"object {found.key} is gone: it was deleted meanwhile") from error
        if len(part) != len(buffer):
            raise CorruptData(f"object {found.key} gave {len(part)} of {len(buffer)} bytes")
        buffer[:] = np.frombuffer(part, np.uint8)

    def _get(self, key: str) -> bytes:
        return self._call(key, lambda: bytes(obstore.get(self.store, key).bytes()))

    def _get_range(self, key: str, offset: int, length: int) -> memoryview:
        return self._call(
            key,
            lambda: memoryview(obstore.get_range(self.store, key, start=offset, length=length)),
        )

    def size(self, descriptor: int) -> int:
        """Return the object's length in bytes."""
        return self._of(descriptor).size

    def drop_cache(self, descriptor: int) -> None:
        """Forget what was fetched."""
        self._of(descriptor).content = None

    def lock(self, descriptor: int) -> bool:
        """Raise an error: object stores have no locks."""
        raise OSError(errno.ENOLCK, f"object {self._of(descriptor).key} cannot be locked")

    def is_locked(self, descriptor: int) -> bool:
        """Return False: objects have no locks."""
        return False

    def make_directory(self, path: Path) -> None:
        """Do nothing: prefixes need not be made."""

    def set_permissions(self, path: Path, mode: int) -> None:
        """Do nothing: who reads a bucket is set there."""

    def sync_directory(self, path: Path) -> None:
        """Do nothing: names are durable with their objects."""

    def replace(self, source: Path, target: Path) -> None:
        """Copy an object over another, or all below a prefix, then remove the source.

        A group of arrays counts from its ``zarr.json`` on, which is copied last and removed first.
        """
        keys = [found for found, _ in self._below(source)]
        if not keys:
            self._copy(_key(source), _key(target))
            self.remove(source)
            return
        head = f"{_key(source)}/zarr.json"
        keys.sort(key=lambda key: (key == head, key))
        for key in keys:
            self._copy(key, _key(target) + key[len(_key(source)) :])
        self._delete([key for key in keys if key == head])
        self._delete([key for key in keys if key != head])

    def _copy(self, source: str, target: str) -> None:
        self._call(source, lambda: obstore.copy(self.store, source, target))

    def link(self, source: Path, target: Path) -> None:
        """Raise an error: an object has only one name."""
        raise OSError(errno.EOPNOTSUPP, f"object {source} cannot be linked")

    def remove(self, path: Path) -> None:
        """Remove an object; that it is gone already is no error."""
        self._delete([_key(path)])

    def _delete(self, keys: Sequence[str]) -> None:
        if keys:
            try:
                self._call(keys[0], lambda: obstore.delete(self.store, list(keys)))
            except FileNotFoundError:
                if len(keys) > 1:
                    for key in keys:
                        self._delete([key])

    def remove_directory(self, path: Path) -> None:
        """Do nothing: a prefix without objects is gone."""

    def remove_tree(self, path: Path) -> None:
        """Remove all objects below a prefix."""
        keys = [key for key, _ in self._below(path)]
        head = f"{_key(path)}/zarr.json"
        self._delete([key for key in keys if key == head])
        self._delete([key for key in keys if key != head])
        if not keys:
            self.remove(path)

    def _below(self, path: Path) -> Iterator[tuple[str, float]]:
        """Yield the keys below a prefix and when each was changed."""
        listing = obstore.list(self.store, _key(path) or None, chunk_size=1000)
        while True:
            chunk = self._call(path, lambda: next(listing, None))
            if chunk is None:
                return
            for meta in chunk:
                yield meta["path"], meta["last_modified"].timestamp()

    def names(self, path: Path) -> list[str]:
        """Return the names directly below a prefix, sorted."""
        prefixes, objects = self._children(path)
        return sorted({key.rstrip("/").rpartition("/")[2] for key in prefixes + objects})

    def exists(self, path: Path) -> bool:
        """Whether there is an object of that name, or one directly below it.

        A group of arrays that is being copied is not there yet: its ``zarr.json`` comes last.
        """
        try:
            self._call(path, lambda: obstore.head(self.store, _key(path)))
        except FileNotFoundError:
            return bool(self._children(path)[1])
        return True

    def _children(self, path: Path) -> tuple[list[str], list[str]]:
        """Return the prefixes and the objects directly below a prefix."""
        prefix = _key(path) or None
        found = self._call(path, lambda: obstore.list_with_delimiter(self.store, prefix))
        return list(found["common_prefixes"]), [meta["path"] for meta in found["objects"]]

    def is_directory(self, path: Path) -> bool:
        """Whether there are objects below a prefix."""
        return next(self._below(path), None) is not None

    def free_bytes(self, path: Path) -> int:
        """Return the room there is: without limit."""
        return _NO_ROOM

    def modified_s(self, path: Path) -> float:
        """Return when an object, or the newest below a prefix, was last changed."""
        try:
            meta = self._call(path, lambda: obstore.head(self.store, _key(path)))
            return meta["last_modified"].timestamp()
        except FileNotFoundError:
            return max((changed for _, changed in self._below(path)), default=0.0)

    def read_whole(self, path: Path) -> bytes:
        """Return all bytes of an object."""
        return self._get(_key(path))

    def write_atomic(self, path: Path, content: bytes) -> None:
        """Put an object in place of what was there."""
        self._put(_key(path), content)

    def write_whole(self, path: Path, pieces: Iterable[Buffer], *, mode: int | None = None) -> None:
        """Put an object of any size in place of what was there; large ones in parts."""
        rest = iter(pieces)
        first: list[bytes] = []
        while sum(len(piece) for piece in first) < _PART_BYTES:
            piece = next(rest, None)
            if piece is None:
                self._put(_key(path), b"".join(first))
                return
            first.append(_bytes(piece))
        parts = itertools.chain(first, (_bytes(piece) for piece in rest))
        self._call(
            path,
            lambda: obstore.put(self.store, _key(path), parts, chunk_size=_PART_BYTES),
        )

    def _put(self, key: str, content: bytes) -> None:
        self._call(key, lambda: obstore.put(self.store, key, content, use_multipart=False))

    def create_record(self, path: Path, content: bytes, *, look: bool = True) -> None:
        """Create an object under a name not yet taken; see :meth:`FileSystem.create_record`."""
        self._put_new(_key(path), content, look=look)

    def _put_new(self, key: str, content: bytes, *, look: bool = True) -> None:
        """Create an object; where its name is taken, look whether it is ours.

        The client below may repeat a request that had succeeded, so an object with our own content
        is ours.
        """
        try:
            self._call(
                key,
                lambda: obstore.put(self.store, key, content, mode="create", use_multipart=False),
            )
        except PermissionError:
            raise
        except OSError as error:
            if isinstance(error, FileExistsError) and not look:
                raise
            try:
                found = self._get(key)
            except OSError:
                raise UncertainRecord(
                    errno.EIO, f"whether object {key} was created is not known: {error}"
                ) from error
            if found != content:
                raise FileExistsError(errno.EEXIST, f"object {key} is there already") from error


def _bytes(buffer: Buffer) -> bytes:
    return buffer if isinstance(buffer, bytes) else bytes(memoryview(buffer))  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12


def _brief(error: Exception) -> str:
    """Return the message of an error without what is for debugging obstore."""
    return str(error).partition("\n")[0]


def _key(path: Path) -> str:
    """Return the key of a path below the root of the object store."""
    return "/".join(part for part in path.parts if part != path.anchor)


def open_url(url: str) -> ObjectFiles:
    """Return the files below the address of an object store.

    Credentials, region and end point come from the environment, as obstore documents them:
    ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT``, ``GOOGLE_SERVICE_ACCOUNT`` and others.
    ``AWS_ALLOW_HTTP=true`` lets the end point be one without TLS.

    Args:
        url: an address such as ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
            ``az://container/prefix``.

    Returns:
        The files; their root is the address.

    Raises:
        InvalidInput: the address has an unknown scheme, or cannot be understood.
        MissingExtra: obstore is not installed.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise InvalidInput(
            f"store address {url!r} has scheme {scheme!r}, wanted one of {list(SCHEMES)} or a path"
        )
    try:
        store = from_url(
            url,
            client_options={
                "timeout": timedelta(seconds=_TIMEOUT_S),
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
            },
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timedelta(seconds=2 * _TIMEOUT_S),
            },
        )
    except (exceptions.BaseError, ValueError) as error:
        raise InvalidInput(f"store address {url!r} cannot be used: {_brief(error)}") from error
    return ObjectFiles(store)
