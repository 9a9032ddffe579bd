"""Lanes are described as they are on disk, tier by tier."""

from pathlib import Path

from isogloss.store import FileSystem, Recording, Store, describe_lane
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()


def size_of(path: Path) -> int:
    return sum(found.stat().st_size for found in path.rglob("*") if found.is_file())


def tiers(recording: Recording) -> list[str]:
    (state,) = recording.lanes()
    found = describe_lane(recording, state)
    directory = recording.directory / "lanes" / state.name
    assert found.stored_bytes == size_of(directory)
    assert [site.site for site in found.sites] == [site.name for site in SPEC.sites]
    assert sum(site.stored_bytes for site in found.sites) < found.stored_bytes
    assert all((site.error is not None) == (site.tier == "quantised") for site in found.sites)
    return [site.tier for site in found.sites]


def test_a_lane_goes_from_tier_to_tier(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        lane = recording.open_lane()
        lane.append([sample_batch(SPEC, "p", 1)])
        assert tiers(recording) == ["live", "live"]
        lane.close()
        assert tiers(recording) == ["sealed", "sealed"]
        recording.compress()
        assert tiers(recording) == ["compressed", "compressed"]
        recording.quantise(["layer.2"])
        assert tiers(recording) == ["compressed", "quantised"]
        recording.retire(0)
        (state,) = recording.lanes()
        assert describe_lane(recording, state).sites == ()


def test_a_fenced_lane_is_its_rows_until_they_are_in_shards(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        (state,) = recording.lanes()
        found = describe_lane(recording, state)
        assert [site.tier for site in found.sites] == ["live", "live"]
        assert found.stored_bytes == state.rows * SPEC.row_bytes
        recording.derive()
        assert tiers(recording) == ["sealed", "sealed"]


def test_what_is_removed_meanwhile_is_left_out(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        (state,) = recording.lanes()
        recording.retire(0)
        assert describe_lane(recording, state).sites == ()


class Removes(FileSystem):
    """Files of which one is removed by somebody else right before it is opened."""

    gone: Path | None = None

    def open(self, path: Path, *, write: bool = False) -> int:
        if path == self.gone:
            path.unlink(missing_ok=True)
        return super().open(path, write=write)


def test_a_file_that_is_removed_between_two_looks_counts_nothing(tmp_path: Path) -> None:
    files = Removes()
    with Store.open(tmp_path, files=files) as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        (state,) = recording.lanes()
        before = describe_lane(recording, state)
        directory = recording.directory / "lanes" / state.name
        files.gone = directory / "site-0" / "c" / "0" / "0"
        shard_bytes = files.gone.stat().st_size
        found = describe_lane(recording, state)
        assert found.sites[0].stored_bytes == before.sites[0].stored_bytes - shard_bytes
        assert found.stored_bytes == size_of(directory)
