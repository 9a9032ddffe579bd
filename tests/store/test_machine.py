"""Random lives of a recording against a perfect memory of it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from isogloss.errors import LaneEnded, SequenceGap
from isogloss.store.lanes.writer import LaneWriter
from isogloss.store.recordings.recording import Recording
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.schema.revision import Revision
from isogloss.store.testing import SimulatedDisk, check_sample, sample_batch, sample_spec
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.scenario import ROOT, open_recording

SPEC = sample_spec()
PRODUCERS = st.sampled_from(["p", "q", "r"])


class RecordingMachine(RuleBasedStateMachine):
    """Appends, repeats, gaps, closings, kills, power losses, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimulatedDisk()
        create_recording_files(self.disk, ROOT, SPEC, ["a"], 3 << 10)
        self.acknowledged: dict[str, int] = {}
        self.pinned: list[tuple[Revision, dict[str, int]]] = []
        self.recording: Recording = open_recording(self.disk)
        self.lane: LaneWriter | None = None

    @precondition(lambda self: self.lane is None)
    @rule()
    def open(self) -> None:
        self.lane = self.recording.open_lane()

    @precondition(lambda self: self.lane is not None)
    @rule(producers=st.lists(PRODUCERS, min_size=1, max_size=4), back=st.integers(0, 2))
    def append(self, producers: list[str], back: int) -> None:
        assert self.lane is not None
        following = {p: max(1, self.acknowledged.get(p, 0) + 1 - back) for p in producers}
        batches = []
        for producer in producers:
            batches.append(sample_batch(SPEC, producer, following[producer]))
            following[producer] += 1
        commit = self.lane.append(batches)
        for producer, sequence in commit.cursors.items():
            assert sequence >= self.acknowledged.get(producer, 0)
        self.acknowledged.update(commit.cursors)

    @precondition(lambda self: self.lane is not None)
    @rule(producer=PRODUCERS, gap=st.integers(1, 3))
    def skip(self, producer: str, gap: int) -> None:
        assert self.lane is not None
        try:
            self.lane.append(
                [sample_batch(SPEC, producer, self.acknowledged.get(producer, 0) + 1 + gap)]
            )
        except SequenceGap:
            return
        raise AssertionError("a gap was accepted")

    @precondition(lambda self: self.lane is not None)
    @rule()
    def close(self) -> None:
        assert self.lane is not None
        self.lane.close()
        self.lane = None

    @precondition(lambda self: self.lane is not None)
    @rule()
    def fail_a_sync(self) -> None:
        assert self.lane is not None
        self.disk.fail_sync_at = self.disk.syncs + 1
        try:
            self.lane.append([sample_batch(SPEC, "p", self.acknowledged.get("p", 0) + 1)])
        except LaneEnded:
            self.lane = None
            return
        raise AssertionError("a failed sync was acknowledged")

    @rule()
    def derive(self) -> None:
        self.recording.derive()

    @rule()
    def pin(self) -> None:
        self.pinned.append((self.recording.revision(), dict(self.acknowledged)))

    @rule()
    def kill(self) -> None:
        self.restart(self.disk.after_kill())

    @rule(survival=st.sampled_from(["dropped", "kept", "mixed"]), seed=st.integers(0, 1000))
    def lose_power(self, survival: Survival, seed: int) -> None:
        self.restart(self.disk.after_power_loss(survival, seed))

    def restart(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.recording = open_recording(disk)
        self.lane = None

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        found = check_sample(self.recording.reader(), self.acknowledged)
        self.acknowledged = found
        for revision, there in self.pinned[-3:]:
            assert check_sample(self.recording.reader(revision), {}).items() >= there.items()


TestRecordingMachine = RecordingMachine.TestCase
TestRecordingMachine.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
