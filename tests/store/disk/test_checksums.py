"""CRC-32C of buffers and of files, block by block."""

from pathlib import Path

import numpy as np
import pytest

import isogloss.store.disk.checksums as checksums
from isogloss.errors import CorruptData
from isogloss.store import FileSystem
from isogloss.store.disk.checksums import crc32c, file_crc32c


def test_the_checksum_is_castagnolis_and_goes_on_over_pieces() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720's polynomial
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == crc32c(b"123456789")


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_a_file_is_read_in_blocks_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(checksums, "_BLOCK_BYTES", block)
    (tmp_path / "x").write_bytes(bytes(range(100)))
    files = FileSystem()
    descriptor = files.open(tmp_path / "x")
    assert file_crc32c(files, descriptor, 10, 55) == crc32c(bytes(range(10, 65)))
    assert file_crc32c(files, descriptor, 10, 0) == 0
    with pytest.raises(CorruptData, match="too early"):
        file_crc32c(files, descriptor, 50, 51)
    files.close(descriptor)
