import hashlib
import os
from pathlib import Path

import pytest
import torch

from isogloss.dictionaries.files import (
    check_sha256,
    make_directory,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from isogloss.errors import CorruptData


class _Disk:
    """Watches the calls of ``os`` that make things durable, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        for name in ("fsync", "fdatasync"):
            self._watch_sync(monkeypatch, name)
        real = os.replace

        def replace(source: Path, target: Path) -> None:
            self.calls.append(("replace", Path(target).name))
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)

    def _watch_sync(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def sync(descriptor: int) -> None:
            self.calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
            real(descriptor)

        monkeypatch.setattr(os, name, sync)


def test_a_file_is_synced_then_named_then_its_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = _Disk(monkeypatch)
    write_json(tmp_path / "a.json", {"a": 1})
    write_tensors(tmp_path / "b.safetensors", {"b": torch.zeros(2)})
    partial = disk.calls[0][1]
    assert partial.startswith(".a.json.")  # a random name: two writers do not meet
    assert partial.endswith(".partial")
    assert disk.calls == [
        ("sync", partial),
        ("replace", "a.json"),
        ("sync", tmp_path.name),
        ("sync", ".b.safetensors.partial"),
        ("replace", "b.safetensors"),
        ("sync", tmp_path.name),
    ]
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.safetensors"]


def test_the_name_of_every_new_directory_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk = _Disk(monkeypatch)
    make_directory(tmp_path / "one" / "two")
    make_directory(tmp_path / "one" / "two")
    assert disk.calls == [("sync", tmp_path.name), ("sync", "one")]


def test_tensors_come_back_with_the_hash_of_their_file(tmp_path: Path):
    path = tmp_path / "t.safetensors"
    digest = write_tensors(path, {"t": torch.arange(6.0).view(2, 3).T})
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_tensors(path, digest)["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(CorruptData, match="sha256"):
        check_sha256(path, "0" * 64)


def test_tensors_that_share_memory_are_written_each(tmp_path: Path):
    both = torch.arange(12.0).view(4, 3)
    digest = write_tensors(tmp_path / "t", {"encoder": both, "decoder": both, "part": both[1:3]})
    read = read_tensors(tmp_path / "t", digest)
    assert torch.equal(read["encoder"], both)
    assert torch.equal(read["decoder"], both)
    assert torch.equal(read["part"], both[1:3])


def test_json_is_replaced_whole_and_floats_come_back_exactly(tmp_path: Path):
    write_json(tmp_path / "a.json", {"a": 1})
    write_json(tmp_path / "a.json", {"a": 0.1 + 0.2})
    assert read_json(tmp_path / "a.json") == {"a": 0.1 + 0.2}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert read_json(tmp_path / "a.json") == {"a": 0.1 + 0.2}
