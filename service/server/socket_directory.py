"""The directory of a server's own socket, and the removal of those that killed servers left."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "isogloss-query-"


class SocketDirectory:
    """A directory that only this user can enter, for the socket of a query process.

    Its maker holds a lock on it as long as it lives. So the next server on the machine knows which
    directories a killed one left behind, and removes them.
    """

    def __init__(self) -> None:
        """Remove what killed servers of this user left, and make a directory."""
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{_PREFIX}*"):
            _remove_unlocked(left)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # mode 0700
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.path.exists():
                return
            os.close(self._lock)  # another server took it for one that was left

    def remove(self) -> None:
        """Remove the directory and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_unlocked(path: Path) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # of another user, or gone
        return
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:  # its server lives
        return
    finally:
        os.close(lock)
