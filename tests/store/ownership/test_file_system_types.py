"""The type of a file system is that of the nearest mount."""

from pathlib import Path

from isogloss.store.ownership.file_system_types import file_system_type, is_shared

MOUNTS = """
22 1 8:1 / / rw - ext4 /dev/sda rw
30 22 0:50 / /home rw - nfs4 server:/home rw
31 22 0:51 / /mnt/with\\040space rw shared:9 - fuse.sshfs host: rw
32 30 0:52 / /home/me/scratch rw - xfs /dev/sdb rw
33 22 0:53 / /lustre rw - lustre mds:/fs rw
"""


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount() -> None:
    kinds = {
        "/": "ext4",
        "/var/x": "ext4",
        "/home/me": "nfs4",
        "/home/me/scratch/a/b": "xfs",
        "/homework": "ext4",
        "/mnt/with space/x": "fuse.sshfs",
        "/lustre": "lustre",
    }
    assert {path: file_system_type(Path(path), MOUNTS) for path in kinds} == kinds
    shared = [kind for kind in dict.fromkeys(kinds.values()) if is_shared(kind)]
    assert shared == ["nfs4", "fuse.sshfs", "lustre"]
    assert file_system_type(Path("/")) != ""
