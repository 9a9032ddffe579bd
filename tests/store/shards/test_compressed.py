import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from isogloss.errors import CorruptData, IsoglossError, StoreOwned
from isogloss.store import Recording, SiteSpec, Store, register_bfloat16
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.shards.compressed import CompressedShard
from isogloss.store.testing import (
    PowerLoss,
    SimulatedDisk,
    check_sample,
    sample_batch,
    sample_spec,
)
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.scenario import ROOT, Outcome, check, live, open_recording

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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("rows", [5, 700])
def test_zarr_and_tensorstore_read_compressed_rows(tmp_path: Path, dtype: str, rows: int) -> None:
    register_bfloat16()
    site = SiteSpec.from_dict({"name": "s", "width": 48, "dtype": dtype})
    spec = sample_spec(sites=(site,))
    batch = sample_batch(spec, "p", 1, rows)
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [], shard_bytes=32 << 10)
        with recording.open_lane() as lane:
            lane.append([batch])
        recording.compress()
        path = str(recording.directory / "lanes" / lane.name / "compressed-0")
    wanted = batch.sites["s"]
    assert np.asarray(zarr.open_array(path, mode="r")[:]).tobytes() == wanted.tobytes()
    kvstore = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    assert tensorstore.open(kvstore).result().read().result().tobytes() == wanted.tobytes()


def test_compression_of_bfloat16_is_worth_it(tmp_path: Path) -> None:
    site = SiteSpec(name="s", width=384)
    spec = sample_spec(sites=(site,))
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", 1, 4096)])
        recording.compress()
        lane_directory = recording.directory / "lanes" / lane.name
        size = (lane_directory / "compressed-0/c/0/0").stat().st_size
        assert not (lane_directory / "site-0").exists()
    assert 4096 * site.row_bytes / size > 1.42


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


def test_damaged_rows_are_never_compressed(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = sealed(store)
        path = recording.directory / "lanes" / recording.lanes()[0].name / "site-1/c/0/0"
        content = bytearray(path.read_bytes())
        content[4096 + 11] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptData, match="run verify"):
            recording.compress()
        assert path.exists()


def begin(disk: SimulatedDisk) -> Outcome:
    outcome = Outcome(was_created=True)
    create_recording_files(disk, ROOT, SPEC, ["a"], 3 << 10)
    live(disk, outcome, groups=1, derive=False)
    return outcome


def lose_power_while_compressing(after: int, survival: Survival) -> bool:
    """Return whether the power went before compression ended."""
    disk = SimulatedDisk()
    outcome = begin(disk)
    disk.stop_at = disk.operations + after
    try:
        open_recording(disk).compress()
    except PowerLoss:
        left = disk.after_power_loss(survival, after)
        check(left, outcome)
        open_recording(left).compress()
        check(left, outcome)
        check(left.after_power_loss("dropped"), outcome)
        return True
    return False


def test_power_may_go_at_any_moment_of_compression() -> None:
    survivals: tuple[Survival, ...] = ("dropped", "kept", "mixed")
    after = 1
    while lose_power_while_compressing(after, survivals[after % 3]):
        after += 3
    assert after > 20


@pytest.mark.parametrize("kind", ["shard", "name"])
def test_every_sync_of_compression_is_needed(kind: str) -> None:
    def ignore(operation: str, path: Path) -> bool:
        if kind == "shard":
            return operation == "sync_data" and "compressed" in str(path)
        return operation == "sync_directory" and path.parent.name == "lanes"

    disk = SimulatedDisk()
    outcome = begin(disk)
    disk.ignore = ignore
    open_recording(disk).compress()
    lost = 0
    for seed in range(20):
        try:
            check(disk.after_power_loss("mixed", seed), dataclasses.replace(outcome))
        except IsoglossError:
            lost += 1
    assert lost
