"""Which lanes of a recording count: the owner seals dead ones, readers read along."""

from isogloss.store.recordings.recording import Recording
from isogloss.store.testing import SimulatedDisk, sample_batch
from isogloss.store.testing.scenario import ROOT, SPEC, open_recording, run


def disk_with_a_lane() -> tuple[SimulatedDisk, Recording, str]:
    disk = SimulatedDisk()
    run(disk, lives=0)
    recording = open_recording(disk)
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    return disk, recording, lane.name


def attach(disk: SimulatedDisk) -> Recording:
    return Recording(files=disk, directory=ROOT, etag="", is_owner=False)


def test_a_living_lane_is_listed_by_its_writer_and_by_who_reads_along() -> None:
    disk, recording, name = disk_with_a_lane()
    for found in (recording, attach(disk)):
        (state,) = found.lanes()
        assert (state.name, state.seal, dict(state.cursors)) == (name, None, {"p": 1})


def test_only_the_owner_seals_a_lane_whose_writer_died() -> None:
    disk, _, name = disk_with_a_lane()
    left = disk.after_kill()
    assert attach(left).lanes()[0].seal is None
    (state,) = open_recording(left).lanes()
    assert state.seal is not None
    assert (state.name, state.seal.reason, state.seal.damage) == (name, "recovered", "")
    (again,) = attach(left).lanes()
    assert again.seal == state.seal


def test_a_lane_without_frame_0_does_not_count_and_its_number_is_not_used_again() -> None:
    disk, recording, _ = disk_with_a_lane()
    recording.close()
    half = ROOT / "lanes" / "00000007.0123456789abcdef"
    disk.make_directory(half)
    disk.close(disk.create(half / "commit.log"))
    assert len(recording.lanes()) == 1
    assert recording.open_lane().name.startswith("00000008.")


def test_lanes_that_were_joined_into_another_no_longer_count() -> None:
    disk, recording, _ = disk_with_a_lane()
    recording.close()
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 2)])
    reader = attach(disk)
    assert len(reader.lanes()) == 2
    recording.compact()
    (state,) = reader.lanes()
    assert state.rows == sum(sample_batch(SPEC, "p", number).rows for number in (1, 2))
