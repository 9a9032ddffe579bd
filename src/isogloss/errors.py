"""Every error this package raises on purpose.

* IsoglossError
  + InvalidInput (ValueError)
    - ShapeError
    - InvalidName
    - NonFiniteRows
    - SequenceGap
    - DocumentMismatch
    - NoSharedDocuments
    - EmptyProbe
    - DeadFeature
    - UnsupportedVersion
    - PassportRefused
  + NotFound (LookupError)
    - UnknownSite
  + AlreadyExists (ValueError)
  + Conflict (RuntimeError)
    - Fenced
    - StoreOwned
  + StorageError (OSError)
    - CorruptData
      * MissingRecord
    - StorageFull
    - LaneEnded
  + ServerError (RuntimeError)
    - ServerUnavailable (ConnectionError)
    - DeadlineExceeded (TimeoutError)
    - ResourceExhausted
    - NotAuthenticated (PermissionError)
    - NotPermitted (PermissionError)
    - InternalError
  + JobError (RuntimeError)
    - JobFailed
    - JobCancelled
    - RankLost
  + MissingExtra (ImportError)

A message holds the found value, the wanted one and the remedy. ``reason`` is the name an error has
on the wire (google.rpc.ErrorInfo); :func:`from_reason` finds the class again.
"""

import errno
import os
import re
from collections.abc import Mapping
from importlib import import_module

from isogloss.field_docs import show_fields


class IsoglossError(Exception):
    """Base of every error raised on purpose; catch this to catch them all."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.reason = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()

    reason: str = "ISOGLOSS_ERROR"
    """Upper-case name of the class on the wire, such as ``UNKNOWN_SITE``."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.args)


class InvalidInput(IsoglossError, ValueError):
    """A value that cannot be used as it is."""


class ShapeError(InvalidInput):
    """An array's shape, dtype or device does not fit the operation."""


class InvalidName(InvalidInput):
    """A resource id is not of the form ``[a-z][a-z0-9-]{0,62}``."""


class NonFiniteRows(InvalidInput):
    """Rows hold NaN or infinity where the recording refuses them."""


class SequenceGap(InvalidInput):
    """A producer skipped a sequence number: a batch before this one is missing."""


class DocumentMismatch(InvalidInput):
    """Two documents share a key but differ in text or tokens."""


class NoSharedDocuments(InvalidInput):
    """The recordings have no document in common, so nothing can be compared."""


class EmptyProbe(InvalidInput):
    """A probe holds no segment."""


class DeadFeature(InvalidInput):
    """The feature fires too rarely on the probe to be compared."""


class UnsupportedVersion(InvalidInput):
    """A file or message has a schema version this release does not read."""


class PassportRefused(InvalidInput):
    """A dictionary is used on something else than it was made for."""


class NotFound(IsoglossError, LookupError):
    """No resource of that name."""


class UnknownSite(NotFound):
    """The model or recording has no such site; the message lists the nearest names."""


class AlreadyExists(IsoglossError, ValueError):
    """A different resource already has that name."""


class Conflict(IsoglossError, RuntimeError):
    """The resource changed, or is not in a state that allows this."""


class Fenced(Conflict):
    """Another writer took over; this one can no longer commit."""


class StoreOwned(Conflict):
    """Another process owns the store."""


class StorageError(IsoglossError, OSError):
    """The storage below refused or failed."""


class CorruptData(StorageError):
    """Stored bytes do not match their checksum or their description."""


class MissingRecord(CorruptData):
    """A record is not there, though later ones are: something else than the store removed it."""


class StorageFull(StorageError):
    """No space, or a quota or disk floor was reached; nothing was accepted."""


class LaneEnded(StorageError):
    """The lane ended after a failed write; what it acknowledged is safe, open a new lane."""


class ServerError(IsoglossError, RuntimeError):
    """The server could not answer."""


class ServerUnavailable(ServerError, ConnectionError):
    """No server answered at the address."""


class DeadlineExceeded(ServerError, TimeoutError):
    """The answer did not come in time."""


class ResourceExhausted(ServerError):
    """A limit of the server was reached."""


class NotAuthenticated(ServerError, PermissionError):
    """No valid token or certificate was given."""


class NotPermitted(ServerError, PermissionError):
    """The token does not allow this."""


class InternalError(ServerError):
    """A defect in isogloss: please report it."""


class JobError(IsoglossError, RuntimeError):
    """A job did not end with a result."""


class JobFailed(JobError):
    """The job ended with an error."""


class JobCancelled(JobError):
    """The job was cancelled."""


class RankLost(JobError):
    """A process that trained together with this one ended; a new start goes on."""


class MissingExtra(IsoglossError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


def _descendants(root: type[IsoglossError]) -> list[type[IsoglossError]]:
    return [root, *(found for child in root.__subclasses__() for found in _descendants(child))]


def from_reason(reason: str) -> type[IsoglossError]:
    """Return the error class of a wire reason; ``IsoglossError`` when this release has none."""
    return next((e for e in _descendants(IsoglossError) if e.reason == reason), IsoglossError)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SHORT: Mapping[int, str] = {
    errno.EMFILE: "this process may open no more files: close some, or raise `ulimit -n`",
    errno.ENFILE: "this machine may open no more files: close some, or raise fs.file-max",
    errno.ENOMEM: "no memory is left: ask for less at once, or try again later",
    errno.EAGAIN: "no thread or process can be begun now: try again later",
}


def from_os_error(error: OSError) -> IsoglossError:
    """Return the error of ours for one of the operating system that nothing below named.

    Its text says what happened and not where: the path may be of no concern to who reads it.

    Args:
        error: any OSError.

    Returns:
        ``error`` itself where it is ours already; StorageFull where there is no room;
        ResourceExhausted where files, memory or processes are short; else StorageError.
    """
    if isinstance(error, IsoglossError):
        return error
    number = error.errno or 0
    name = errno.errorcode.get(number, type(error).__name__)
    text = os.strerror(number) if number else "the operating system refused"
    if number in _FULL:
        return StorageFull(f"no room ({name}, {text}): free some space, then try again")
    if number in _SHORT:
        return ResourceExhausted(f"{text} ({name}): {_SHORT[number]}")
    if isinstance(error, FileNotFoundError):
        return StorageError(
            f"a file is not there ({name}): it was deleted meanwhile, and then asking again says "
            "so; or files of the store are missing, which `isogloss verify` names"
        )
    return StorageError(
        f"the storage refused or failed ({name}, {text}): see to its disk and permissions, then "
        "try again"
    )


_EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("faiss", "google_crc32c", "grpc_health", "grpc_reflection", "jaxtyping", "jinja2"),
            *("msgspec", "numba", "numcodecs", "regex", "safetensors", "scipy", "torch", "triton"),
            *("zarr", "zstandard"),
        ),
        "server",
    ),
    "obstore": "cloud",
    "tokenizers": "models",
    "transformers": "models",
    "onnx": "demo",
}
"""The extra that brings a package, by the name under which it is imported."""


def missing_extra(what: str, error: ModuleNotFoundError) -> MissingExtra | None:
    """Say how to install what an import did not find.

    Args:
        what: what was wanted, for the message.
        error: raised by the import.

    Returns:
        The error to raise in its place; None where no extra of ours brings the package.
    """
    package = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(package)
    if extra is None:
        return None
    return MissingExtra(
        f"{what} needs the package {package!r}, which is not installed, as only a client is: "
        f"pip install 'isogloss[{extra}]'"
    )


def load_name(module: str, name: str) -> object:
    """Import a module and return what it calls ``name``: how a room loads its public names.

    Args:
        module: full name of the module.
        name: a name that it has.

    Returns:
        What has the name.

    Raises:
        MissingExtra: the module needs a package that is not installed; the message holds the pip
            command.
    """
    try:
        found: object = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        missing = missing_extra(name, error)
        if missing is None:
            raise
        raise missing from error
    show_fields(found)
    return found
