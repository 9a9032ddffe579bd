"""Lanes that other processes write on the same storage, with a ticket of the store's owner."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import (
    Conflict,
    Fenced,
    InvalidInput,
    IsoglossError,
    StorageFull,
    StoreOwned,
)
from isogloss.store import LaneLimits, Recording, Store
from isogloss.store.direct.ticket import DirectLaneTicket
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.schema.document import Document
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()
SHARD_BYTES = 8 << 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as opened:
        opened.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        yield opened


@pytest.fixture
def recording(store: Store) -> Recording:
    return store.recording("sample")


class Foreign:
    """A real process that writes a direct lane."""

    def __init__(self, root: Path, ticket: DirectLaneTicket) -> None:
        self.ticket = ticket
        self.process = subprocess.Popen(
            [sys.executable, "-m", "isogloss.store.testing.direct_writer", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        content = ticket.to_bytes()
        self.process.stdin.write(b"%d\n%b" % (len(content), content))
        self.process.stdin.flush()
        self.acknowledged: dict[str, int] = {}
        self.last = ""

    def read(self, lines: int = 1) -> None:
        assert self.process.stdout is not None
        for _ in range(lines):
            self.note(self.process.stdout.readline())

    def note(self, line: bytes) -> None:
        if line.endswith(b"\n"):
            self.last = line.decode().strip()
            if " " in self.last:
                producer, sequence = self.last.split()
                self.acknowledged[producer] = int(sequence)

    def end(self, *, kill: bool = False) -> None:
        """Kill it, or let it close its lane; then take what it still had said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if kill:
            self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        for line in self.process.stdout:
            self.note(line)
        self.process.stdout.close()
        assert self.process.wait(60) == (-signal.SIGKILL if kill else 0)


@contextlib.contextmanager
def foreign(root: Path, recording: Recording, *producers: str) -> Generator[Foreign]:
    writer = Foreign(root, recording.offer_direct_lane(producers))
    try:
        yield writer
    finally:
        if writer.process.poll() is None:
            writer.end(kill=True)


def test_rows_of_a_foreign_process_arrive_bit_equal_while_it_writes(
    root: Path, recording: Recording
) -> None:
    with foreign(root, recording, "rank-0", "rank-1") as writer:
        writer.read(40)
        seen = check_sample(recording.reader(), writer.acknowledged)
        assert set(seen) == {"rank-0", "rank-1"}
        (live,) = recording.lanes()
        assert live.seal is None
        assert live.is_direct
        writer.end()
    assert writer.last == "closed"
    (done,) = recording.lanes()
    assert done.seal is not None
    assert done.seal.reason == "closed"
    assert check_sample(recording.reader(), writer.acknowledged) == writer.acknowledged
    assert recording.verify() == []


def test_two_foreign_processes_and_the_owner_write_at_once(
    root: Path, recording: Recording
) -> None:
    with (
        foreign(root, recording, "rank-0") as first,
        foreign(root, recording, "rank-1") as second,
        recording.open_lane() as lane,
    ):
        for sequence in range(1, 11):
            lane.append([sample_batch(SPEC, "rank-2", sequence)])
            first.read()
            second.read()
        first.end()
        second.end()
    wanted = {**first.acknowledged, **second.acknowledged, "rank-2": 10}
    assert check_sample(recording.reader(), wanted) == wanted
    assert sorted(lane.is_direct for lane in recording.lanes()) == [False, True, True]
    assert recording.verify() == []


def kill_loop(root: Path, kills: int, seed: int) -> int:
    """Kill foreign writers at random moments; return how many batches were acknowledged."""
    chance = random.Random(seed)
    acknowledged: dict[str, int] = {}
    with Store.open(root) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        for kill in range(kills):
            with foreign(root, recording, "rank-0", "rank-1") as writer:
                # what is unacknowledged may have become durable, so cursors may run ahead
                for name, last in writer.ticket.cursors.items():
                    assert last >= acknowledged.get(name, 0)
                if chance.random() < 0.8:
                    writer.read()
                    time.sleep(chance.random() * 0.1)
                else:
                    time.sleep(chance.random() * 0.4)
                writer.end(kill=True)
                acknowledged.update(writer.acknowledged)
            if kill % 10 == 4:
                check_sample(recording.reader(), acknowledged)
        check_sample(recording.reader(), acknowledged)
        assert recording.verify() == []
    return sum(acknowledged.values())


def test_five_kills_of_a_foreign_writer_lose_and_repeat_nothing(root: Path) -> None:
    assert kill_loop(root, 5, seed=3) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_kills_of_a_foreign_writer_lose_and_repeat_nothing(root: Path) -> None:
    assert kill_loop(root, 50, seed=4) > 0


def test_a_new_owner_sees_a_lane_that_goes_on(root: Path, store: Store) -> None:
    with foreign(root, store.recording("sample"), "rank-0") as writer:
        writer.read(3)
        store.close()
        writer.read(3)
        with Store.open(root) as again:
            recording = again.recording("sample")
            check_sample(recording.reader(), writer.acknowledged)
            writer.read(3)
            check_sample(recording.reader(), writer.acknowledged)
            with pytest.raises(Conflict, match="rank-0"):
                recording.offer_direct_lane(["rank-0"])
            writer.end(kill=True)
            assert recording.lanes()[0].seal is not None
            assert recording.offer_direct_lane(["rank-0"]).cursors["rank-0"] >= 9
            check_sample(recording.reader(), writer.acknowledged)


def test_an_attached_reader_sees_a_direct_lane(root: Path, recording: Recording) -> None:
    with foreign(root, recording, "rank-0") as writer:
        writer.read(5)
        attached = Store.attach(root)
        check_sample(attached.recording("sample").reader(), writer.acknowledged)
        with pytest.raises(StoreOwned):
            attached.recording("sample").offer_direct_lane(["rank-1"])
        attached.close()


def test_a_zombie_that_wakes_after_its_lane_was_ended_acknowledges_nothing(
    root: Path, recording: Recording
) -> None:
    with foreign(root, recording, "rank-0") as zombie:
        zombie.read(4)
        os.kill(zombie.process.pid, signal.SIGSTOP)
        time.sleep(0.05)
        with pytest.raises(Conflict, match="end the lane"):
            recording.offer_direct_lane(["rank-0"])
        ended = recording.end_direct_lane(zombie.ticket.lane)
        assert ended.seal is not None
        with foreign(root, recording, "rank-0") as successor:
            successor.read(4)
            os.kill(zombie.process.pid, signal.SIGCONT)
            zombie.end()
            assert zombie.last == "fenced"
            assert zombie.acknowledged["rank-0"] <= ended.cursors["rank-0"]
            successor.read(4)
            successor.end()
    assert check_sample(recording.reader(), successor.acknowledged) == successor.acknowledged
    assert recording.verify() == []
    assert recording.lanes()[0] == ended


def test_what_a_fenced_writer_still_writes_does_not_count(root: Path, recording: Recording) -> None:
    lane = open_direct_lane(root, recording.offer_direct_lane(["p"]))
    lane.append([sample_batch(SPEC, "p", 1)])
    recording.end_direct_lane(lane.name)
    with pytest.raises(Fenced, match="open a new direct lane"):
        lane.append([sample_batch(SPEC, "p", 2)])
    lane.close()
    assert recording.cursor("p") == 1
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as second:
        second.append([sample_batch(SPEC, "p", 2)])
    assert check_sample(recording.reader(), {"p": 2}) == {"p": 2}
    assert recording.verify() == []


def test_a_fenced_writer_neither_publishes_nor_seals(root: Path, recording: Recording) -> None:
    lane = open_direct_lane(root, recording.offer_direct_lane(["p"]))
    lane.append([sample_batch(SPEC, "p", 1)])
    ended = recording.end_direct_lane(lane.name)
    with pytest.raises(Fenced):
        lane.close()
    assert recording.lanes() == [ended]
    assert recording.verify() == []


def test_a_seal_of_the_owner_is_never_written_over(root: Path, recording: Recording) -> None:
    lane = open_direct_lane(root, recording.offer_direct_lane(["p"]))
    lane.append([sample_batch(SPEC, "p", 1)])
    recording.end_direct_lane(lane.name)
    fence = recording.directory / "direct" / f"{lane.name}.fence"
    fence.unlink()  # as if the writer had looked just before
    before = (recording.directory / "lanes" / lane.name / "seal.json").read_bytes()
    with pytest.raises(IsoglossError, match="File exists"):
        lane.close()
    assert (recording.directory / "lanes" / lane.name / "seal.json").read_bytes() == before


def test_a_ticket_is_used_once(root: Path, recording: Recording) -> None:
    ticket = recording.offer_direct_lane(["p"])
    with open_direct_lane(root, ticket) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
    with pytest.raises(Conflict, match="was used"):
        open_direct_lane(root, ticket)
    shutil.rmtree(recording.directory / "lanes" / lane.name)
    with pytest.raises(Conflict, match="was used"):
        open_direct_lane(root, ticket)


def test_documents_of_earlier_lanes_need_not_be_described_again(
    root: Path, recording: Recording
) -> None:
    first, second = sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2)
    with recording.open_lane() as own:
        own.append([first])
    bare = replace(second, document=np.full(second.rows, first.document[0]), documents=())
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        lane.append([bare])
        unknown = replace(bare, sequence=3, document=second.document)
        with pytest.raises(InvalidInput, match="no batch described"):
            lane.append([unknown])
    assert recording.reader().rows == first.rows + second.rows


def test_lanes_that_disagree_on_a_document_stay_readable(root: Path, recording: Recording) -> None:
    def of_group(producer: str, group: str) -> object:
        batch = sample_batch(SPEC, producer, 1)
        document = Document.from_text("the same text", group=group)
        return replace(
            batch, document=np.full(batch.rows, document.id, np.uint64), documents=(document,)
        )

    with (
        open_direct_lane(root, recording.offer_direct_lane(["p"])) as first,
        open_direct_lane(root, recording.offer_direct_lane(["q"])) as second,
    ):
        first.append([of_group("p", "one")])  # type: ignore[list-item]
        second.append([of_group("q", "two")])  # type: ignore[list-item]
    (document,) = recording.reader().documents().values()
    assert document.group == "one"
    with recording.open_lane() as own:
        own.append([sample_batch(SPEC, "r", 1)])


def test_a_torn_last_frame_of_a_dead_writer_is_cut(root: Path, recording: Recording) -> None:
    ticket = recording.offer_direct_lane(["p"])
    lane = open_direct_lane(root, ticket)
    ends = []
    for sequence in (1, 2, 3):
        lane.append([sample_batch(SPEC, "p", sequence)])
        ends.append(lane.log_bytes)
    lane._release()  # pyright: ignore[reportPrivateUsage] - as death does, without a seal
    os.truncate(ticket.path(root) / "commit.log", ends[2] - 8)
    assert check_sample(recording.reader(), {"p": 2}) == {"p": 2}
    (state,) = recording.lanes()
    assert state.seal is not None
    assert state.seal.reason == "recovered"
    assert recording.offer_direct_lane(["p"]).cursors == {"p": 2}


def test_limits_of_the_ticket_hold_before_rows_are_accepted(
    root: Path, recording: Recording
) -> None:
    first, second = sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2)
    with recording.open_lane() as own:
        own.append([sample_batch(SPEC, "q", 1, rows=10)])
    limits = LaneLimits(max_rows=10 + first.rows)
    with open_direct_lane(root, recording.offer_direct_lane(["p"], limits)) as lane:
        lane.append([first])
        with pytest.raises(StorageFull, match="limit"):
            lane.append([second])
    full = LaneLimits(free_bytes=1 << 60)
    with (
        open_direct_lane(root, recording.offer_direct_lane(["p"], full)) as lane,
        pytest.raises(StorageFull, match="must stay free"),
    ):
        lane.append([second])
    assert recording.revision().rows == 10 + first.rows


def test_retention_counts_direct_lanes(root: Path, recording: Recording) -> None:
    for sequence in (1, 2):
        with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
            lane.append([sample_batch(SPEC, "p", sequence)])
    first, second = recording.lanes()
    assert recording.retire(second.rows) == first.rows
    assert recording.revision().rows == second.rows
    assert recording.cursor("p") == 2
    assert recording.verify() == []
    with pytest.raises(Conflict, match="was used"):
        open_direct_lane(root, lane.ticket)


def test_a_direct_lane_takes_rows_of_a_training_step(
    root: Path, store: Store, recording: Recording
) -> None:
    assert not recording.has_steps()
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
        assert not recording.has_steps()
        lane.append([sample_batch(SPEC, "p", 2, step=11)])
        assert recording.has_steps()
        assert check_sample(recording.reader(), {"p": 2}) == {"p": 2}
    steps = {batch.step: batch.rows for batch in recording.reader().steps()}
    assert steps == {0: sample_batch(SPEC, "p", 1).rows, 11: sample_batch(SPEC, "p", 2).rows}
    recording.derive()
    assert check_sample(recording.reader(), {"p": 2}) == {"p": 2}
    assert recording.verify() == []
    store.close()
    with Store.open(root) as again:
        assert again.recording("sample").has_steps()
        with again.recording("sample").open_lane() as own:
            own.append([sample_batch(SPEC, "p", 3, step=12)])
        assert check_sample(again.recording("sample").reader(), {}) == {"p": 3}


def test_sealed_direct_lanes_are_kept_joined_and_retired_like_others(
    root: Path, store: Store, recording: Recording
) -> None:
    for sequence in (1, 2, 3):
        with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
            lane.append([sample_batch(SPEC, "p", sequence)])
    pinned = recording.revision()
    store.close()
    with Store.open(root) as again:
        found = again.recording("sample")
        found.drop_litter(older_s=-1.0)
        assert check_sample(found.reader(), {"p": 3}) == {"p": 3}
        assert found.compact().into == 1
        assert check_sample(found.reader(pinned), {"p": 3}) == {"p": 3}
        assert not any(state.is_direct for state in found.lanes())
    with Store.open(root) as again:
        found = again.recording("sample")
        found.drop_litter(older_s=-1.0)
        assert check_sample(found.reader(), {"p": 3}) == {"p": 3}
        with found.open_lane() as own:
            own.append([sample_batch(SPEC, "p", 4)])
        assert found.offer_direct_lane(["p"]).cursors == {"p": 4}
        assert found.verify() == []
