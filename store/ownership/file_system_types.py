"""The type of a path's file system, and whether other machines may have it mounted too."""

from pathlib import Path

_NETWORK_TYPES = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "smb3",
        "smbfs",
        "virtiofs",
        "wekafs",
    }
)
"""File systems that several machines may have mounted."""

_MOUNTS = Path("/proc/self/mountinfo")


def file_system_type(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system of a path as Linux calls it, such as ``ext4``.

    Args:
        path: need not exist yet.
        mounts: text in the form of ``/proc/self/mountinfo``, by default that; see proc(5).

    Returns:
        The type; empty where it cannot be found out.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text()
        except OSError:
            return ""
    resolved = path.resolve()
    best, found = -1, ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_unescape(fields[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), after.split(" ")[0]
    return found


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def is_shared(kind: str) -> bool:
    """Whether several machines may have mounted a file system of this type.

    Then ``F_OFD_SETLK`` may hold on one machine only (such as Lustre without ``-o flock``, most
    FUSE file systems, NFS without a lock manager).
    """
    return kind in _NETWORK_TYPES or (kind.startswith("fuse.") and kind != "fuse.portal")
