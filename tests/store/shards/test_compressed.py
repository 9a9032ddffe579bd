from pathlib import Path

import pytest

from isogloss.errors import CorruptData, StoreOwned
from isogloss.store import Recording, Store
from isogloss.store.shards.compressed import CompressedShard
from isogloss.store.testing import (
    check_sample,
    sample_batch,
    sample_spec,
)

SPEC = sample_spec()


def sealed(store: Store, shard_bytes: int = 3 << 10) -> Recording:
    recording = store.create_recording(SPEC, [], shard_bytes=shard_bytes)
    for first in (1, 9):
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(8)])
    return recording


@pytest.mark.parametrize("mapped", [False, True])
def test_compressed_shards_are_mapped_for_who_asks(tmp_path: Path, mapped: bool) -> None:
    with Store.open(tmp_path) as store:
        recording = sealed(store)
        raw = recording.reader().read("layer.2", 0, recording.revision().rows)
        recording.compress()
        reader = recording.reader()
        assert reader.read("layer.2", 0, reader.rows).tobytes() == raw.tobytes()
        for batch in reader.shuffled(
            ["layer.2"], seed=0, epoch=0, batch_rows=16, mapped=mapped, window_rows=64
        ):
            assert batch.sites["layer.2"].tobytes() == raw[batch.rows].tobytes()
        shards = [shard for lane in reader._lanes for shard in lane._open.values()]
        assert all(isinstance(shard, CompressedShard) for shard in shards)
        assert {getattr(shard, "_mapped", None) is not None for shard in shards} == {mapped}
        assert reader.read("layer.2", 0, reader.rows).tobytes() == raw.tobytes()


def test_compressed_rows_are_the_same_and_everything_still_works(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = sealed(store, 12 << 10)
        pinned = recording.reader()
        before = [
            batch.sites["layer.2"].tobytes()
            for batch in pinned.shuffled(["layer.2"], seed=0, epoch=0, batch_rows=32)
        ]
        mapped = pinned.shuffled(["layer.2"], seed=0, epoch=0, batch_rows=32)
        assert recording.compress() == 4
        assert recording.compress() == 0
        for reader in (pinned, recording.reader(), recording.reader(pinned.revision)):
            assert check_sample(reader, {"p": 16}) == {"p": 16}
        again = recording.reader().shuffled(["layer.2"], seed=0, epoch=0, batch_rows=32)
        for batches in (mapped, again):
            assert [batch.sites["layer.2"].tobytes() for batch in batches] == before
        assert store.verify() == []
        assert recording.statistics("layer.2").count == pinned.rows
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 17)])
            assert recording.compress() == 0
        assert recording.compress() == 2
        with Store.attach(tmp_path) as attached, pytest.raises(StoreOwned, match="attached"):
            attached.recording("sample").compress()
    with Store.open(tmp_path) as store:
        assert check_sample(store.recording("sample").reader(), {"p": 17}) == {"p": 17}


def test_a_flipped_bit_in_compressed_rows_is_found(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = sealed(store)
        recording.compress()
        name = recording.lanes()[0].name
        path = recording.directory / "lanes" / name / "compressed-1/c/0/0"
        whole = path.read_bytes()
        for at in (3, 4096 + 40, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 2
            path.write_bytes(damaged)
            with pytest.raises(CorruptData, match="does not match its checksum"):
                recording.reader().read("layer.2", 0, 200)
            assert any("'layer.2'" in problem.message for problem in store.verify())
        path.write_bytes(whole[:10])
        with pytest.raises(CorruptData, match="its index alone"):
            recording.reader().read("layer.2", 0, 1)
