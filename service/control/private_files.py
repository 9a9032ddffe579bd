"""Files that only the user who runs the server can read."""

import os
from pathlib import Path

from isogloss.store import FileSystem


class PrivateFiles(FileSystem):
    """The operating system's files; those made through it are for this user alone."""

    def create(self, path: Path) -> int:
        """Create a file that does not exist yet, with mode 600."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
