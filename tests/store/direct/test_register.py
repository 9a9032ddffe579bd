"""What is believed of a direct lane: tickets, paths below the root, headers, commits."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.errors import (
    StorageError,
)
from isogloss.store import LaneLimits, Recording, Store
from isogloss.store.direct.register import DirectRegister
from isogloss.store.direct.ticket import DirectLaneHeader, DirectLaneTicket
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.log_frames import KIND_COMMIT, CommitFrame, encode_frame, read_frames
from isogloss.store.lanes.writer import LaneWriter
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.schema.batch import as_bytes
from isogloss.store.schema.document import DocumentTable
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec

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


# Where it is written.


# What is read.


def write_lane(root: Path, ticket: DirectLaneTicket, header: DirectLaneHeader) -> LaneWriter:
    """Write a lane in the place of a ticket without asking it."""
    return LaneWriter(
        files=FileSystem(),
        directory=ticket.path(root),
        spec=SPEC,
        header=header,
        cursors={},
        documents=DocumentTable(),
        limits=LaneLimits(),
        rows_before=0,
    )


def header_of(ticket: DirectLaneTicket) -> DirectLaneHeader:
    return DirectLaneHeader(
        recording=ticket.recording,
        lane=ticket.lane,
        epoch=ticket.epoch,
        layouts=ticket.layouts,
        created_s=0.0,
    )


def test_the_newest_commit_counts_only_with_its_rows(root: Path, recording: Recording) -> None:
    """Its frame may be on the disk before its rows are; those before it are complete."""
    ticket = recording.offer_direct_lane(["p"])
    with open_direct_lane(root, ticket) as lane:
        for sequence in (1, 2):
            lane.append([sample_batch(SPEC, "p", sequence)])
        path = next(ticket.path(root).glob("site-0/c/0/0"))
        whole = path.read_bytes()
        last = as_bytes(next(iter(sample_batch(SPEC, "p", 2).sites.values()))).tobytes()
        at = whole.rindex(last)
        path.write_bytes(whole[:at] + bytes(len(last)) + whole[at + len(last) :])
        assert recording.cursor("p") == 1
        assert recording.cursor("p") == 1
        path.write_bytes(whole)
        assert recording.cursor("p") == 2


def check_refused(recording: Recording, lane: str, message: str) -> None:
    assert recording.lanes() == []
    assert recording.revision().rows == 0
    (problem,) = recording.verify()
    assert problem.lane == lane
    assert "nothing of it is read" in problem.message
    assert message in problem.message


def test_a_lane_without_a_ticket_is_never_read_and_goes_at_its_age(
    root: Path, store: Store, recording: Recording
) -> None:
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
    (root / lane.ticket.file).unlink()
    store.close()
    with Store.open(root) as again:
        found = again.recording("sample")
        check_refused(found, lane.name, "no ticket names it")
        assert found.drop_litter(older_s=3600.0) == 0
        assert lane.ticket.path(root).exists()
        assert found.drop_litter(older_s=-1.0) >= 1
        assert not lane.ticket.path(root).exists()
        assert found.verify() == []


@pytest.mark.parametrize("lie", ["recording", "lane", "epoch", "layouts"])
def test_a_header_that_lies_is_refused(root: Path, recording: Recording, lie: str) -> None:
    ticket = recording.offer_direct_lane(["p"])
    header = header_of(ticket)
    other = {
        "recording": "ab" * 12,
        "lane": "00000007.0123456789abcdef",
        "epoch": ticket.epoch ^ 1,
        "layouts": tuple(replace(layout, chunk_rows=1) for layout in ticket.layouts),
    }
    with write_lane(root, ticket, replace(header, **{lie: other[lie]})) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
        check_refused(recording, ticket.lane, "frame 0 describes lane")


@pytest.mark.parametrize("lie", ["rows", "first_row", "range", "producer", "sequence"])
def test_a_commit_that_lies_is_refused(root: Path, recording: Recording, lie: str) -> None:
    ticket = recording.offer_direct_lane(["p"])
    batch = sample_batch(SPEC, "p", 1)
    honest = tuple(
        ByteRange(
            site=site,
            shard=0,
            offset=layout.data_offset,
            length=batch.rows * layout.row_bytes,
            checksum=0,
        )
        for site, layout in enumerate(ticket.layouts)
    )
    frame = CommitFrame(
        first_row=1 if lie == "first_row" else 0,
        rows=1 << 50 if lie == "rows" else batch.rows,
        time_s=0.0,
        cursors={"x" if lie == "producer" else "p": 0 if lie == "sequence" else 1},
        ranges=(replace(honest[0], length=1 << 50), *honest[1:]) if lie == "range" else honest,
        columns=batch.columns,
        documents=batch.documents,
    )
    with write_lane(root, ticket, header_of(ticket)) as lane:
        pieces = encode_frame(KIND_COMMIT, ticket.epoch, 1, frame.to_buffers())
        with (ticket.path(root) / "commit.log").open("r+b") as log:
            log.seek(lane.log_bytes)
            log.write(b"".join(bytes(piece) for piece in pieces))  # type: ignore[arg-type]
        assert recording.lanes() == []
        (problem,) = recording.verify()
        assert "nothing of it is read" in problem.message


@pytest.mark.parametrize("is_newest", [True, False])
def test_a_commit_beyond_the_end_of_its_shard_counts_never(
    root: Path, recording: Recording, is_newest: bool
) -> None:
    """The newest may be on its way still; with another one behind it, its shards were cut."""
    ticket = recording.offer_direct_lane(["p"])
    with open_direct_lane(root, ticket) as lane:
        for sequence in (1, 2)[: 1 if is_newest else 2]:
            lane.append([sample_batch(SPEC, "p", sequence)])
        os.truncate(next(ticket.path(root).glob("site-0/c/0/0")), 64)
        assert recording.revision().rows == 0
        if not is_newest:
            check_refused(recording, ticket.lane, "has 64 bytes, its log")


@pytest.mark.parametrize("where", ["site-0/c/0/0", "commit.log", "planted", "site-1"])
def test_a_link_inside_a_lane_is_never_followed(
    root: Path, recording: Recording, tmp_path: Path, where: str
) -> None:
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
    path = lane.ticket.path(root) / where
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    check_refused(recording, lane.name, "symbolic link")


@pytest.mark.parametrize("change", ["damage", "other"])
def test_a_ticket_that_was_changed_in_the_store_refuses_its_lane(
    root: Path, store: Store, recording: Recording, change: str
) -> None:
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
    path = root / lane.ticket.file
    if change == "damage":
        path.write_bytes(path.read_bytes().replace(b'"p"', b'"q"'))
    else:
        path.write_bytes(replace(lane.ticket, recording="ab" * 12).to_bytes())
    store.close()
    with Store.open(root) as again:
        wanted = "checksum" if change == "damage" else "ticket"
        check_refused(again.recording("sample"), lane.name, wanted)


def test_a_refused_lane_that_acknowledged_rows_is_not_collected(
    root: Path, store: Store, recording: Recording
) -> None:
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
    planted = lane.ticket.path(root) / "planted"
    planted.symlink_to(root)
    check_refused(recording, lane.name, "symbolic link")
    recording.drop_litter(older_s=-1.0)
    planted.unlink()
    assert check_sample(recording.reader(), {"p": 1}) == {"p": 1}
    assert recording.verify() == []


def test_a_lane_that_never_began_goes_at_its_age(root: Path, recording: Recording) -> None:
    begun, offered = recording.offer_direct_lane(["p"]), recording.offer_direct_lane(["q"])
    begun.path(root).mkdir()
    (begun.path(root) / "commit.log").touch()
    assert recording.drop_litter(older_s=3600.0) == 0
    assert begun.path(root).exists()
    assert recording.drop_litter(older_s=-1.0) == 2
    assert not begun.path(root).exists()
    assert not (root / offered.file).exists()
    assert recording.drop_litter(older_s=-1.0) == 1
    assert recording.verify() == []


def test_a_log_that_its_writer_cuts_while_it_is_read_ends_there(
    root: Path, recording: Recording
) -> None:
    class Late(FileSystem):
        """Sees the room that a writer had set aside behind its frames, and reads after the cut."""

        def size(self, descriptor: int) -> int:
            is_log = Path(f"/proc/self/fd/{descriptor}").readlink().name == "commit.log"
            return super().size(descriptor) + is_log * (1 << 20)

    ticket = recording.offer_direct_lane(["p"])
    with open_direct_lane(root, ticket) as lane:
        lane.append([sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2)])
    files = Late()
    log = files.open(ticket.path(root) / "commit.log")
    assert [frame.number for frame in read_frames(files, log)] == [0, 1]
    files.close(log)
    register = DirectRegister(files, recording.directory, SPEC, SHARD_BYTES)
    found = register.look(ticket.lane)
    assert found.refusal == ""
    assert found.scan is not None
    assert found.scan.cursors == {"p": 2}


def test_a_disk_that_fails_is_an_error_and_no_reason_to_leave_a_lane_out(tmp_path: Path) -> None:
    files = FaultyFiles(error=errno.EIO, operations=frozenset({"open"}))
    with Store.open(tmp_path / "s", files=files) as store:
        found = store.create_recording(SPEC, [])
        lane = open_direct_lane(tmp_path / "s", found.offer_direct_lane(["p"]))
        lane.append([sample_batch(SPEC, "p", 1)])
        before = files.count
        rows = found.revision().rows
        opened, failed = files.count - before, 0
        for step in range(1, opened + 1):
            files.fail_at = files.count + step
            try:
                assert found.revision().rows == rows
            except StorageError:
                failed += 1
        assert failed >= 1
        files.fail_at = 0
        lane.close()
        assert check_sample(found.reader(), {"p": 1}) == {"p": 1}
