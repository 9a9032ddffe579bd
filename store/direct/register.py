"""The tickets of a recording, and the check of every direct lane against its ticket.

The owner of the store does not control the process that writes a direct lane. So before a row of
it counts, all of the lane is compared with its ticket: names, header, the place and length of what
each commit wrote, and whose batches they are; and no link in it may lead elsewhere.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from isogloss.errors import CorruptData, IsoglossError, NotPermitted
from isogloss.store.direct.ticket import (
    TICKETS_NAME,
    DirectLaneTicket,
    accepted_path,
    begun_path,
    fence_path,
    ticket_path,
)
from isogloss.store.disk.filesystem import FileSystem, make_directories, read_range, write_new
from isogloss.store.disk.rooted_files import check_tree
from isogloss.store.lanes.lane_directory import LOG_NAME, has_writer, lane_names
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.log_frames import (
    HEAD,
    MAGIC,
    CommitFrame,
    read_frame,
    read_frames,
    read_payload_json,
)
from isogloss.store.lanes.log_scan import LaneHeader, LaneScan, is_durable, unscanned
from isogloss.store.lanes.seal import Seal
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.layout import shard_key, site_directory


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectLook:
    """State of one direct lane, as the register found it."""

    is_direct: bool = False
    """Whether a ticket of this store names it, so that another process wrote or writes it."""

    is_fenced: bool = False
    """Whether the owner ended it."""

    refusal: str = ""
    """Why no row of it counts; empty where rows count."""

    scan: LaneScan | None = None
    """The commits in its log, all durable; None where the log was not read now."""


_PLAIN = DirectLook()


class DirectRegister:
    """The tickets of one recording, and what their lanes hold. Not safe from several threads."""

    def __init__(
        self, files: FileSystem, directory: Path, spec: RecordingSpec, shard_bytes: int
    ) -> None:
        """Make a register of a recording's tickets; nothing is read yet.

        Args:
            files: the file system that the recording is on.
            directory: the recording's directory.
            spec: the recording's specification.
            shard_bytes: about how large a shard becomes.
        """
        self._files = files
        self._lanes = directory / "lanes"
        self._directory = directory / TICKETS_NAME
        self._recording = directory.name
        self._spec = spec
        self._shard_bytes = shard_bytes
        self._plain: set[str] = set()
        self._accepted: set[str] = set()
        self._tickets: dict[str, DirectLaneTicket] = {}
        self._scans: dict[str, LaneScan] = {}

    def names(self) -> list[str]:
        """Return the lanes for which there is, or was, a ticket."""
        return sorted({_lane_of(name) for name in self._files.names(self._directory)} - {""})

    def offer(
        self, lane: str, cursors: Mapping[str, int], limits: LaneLimits, rows_before: int
    ) -> DirectLaneTicket:
        """Write a ticket; it is durable when this returns."""
        ticket = DirectLaneTicket(
            recording=self._recording,
            lane=lane,
            spec=self._spec,
            shard_bytes=self._shard_bytes,
            cursors=cursors,
            limits=limits,
            rows_before=rows_before,
        )
        make_directories(self._files, self._directory)
        if not self._tickets:  # an owner may have made the directory, and died right after
            self._files.sync_directory(self._directory.parent)
        self._files.write_atomic(ticket_path(self._directory, lane), ticket.to_bytes())
        self._tickets[lane] = ticket
        return ticket

    def fence(self, lane: str) -> None:
        """End a lane: its writer can acknowledge nothing from now on."""
        with contextlib.suppress(FileExistsError):
            write_new(self._files, fence_path(self._directory, lane), [])
        self._files.sync_directory(self._directory)

    def forget(self, lane: str) -> None:
        """Remove the ticket of a lane, so that no row of it ever counts."""
        self._tickets.pop(lane, None)
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(ticket_path(self._directory, lane))
        self._files.sync_directory(self._directory)

    def accept(self, lane: str, seal: Seal) -> str:
        """Note that a sealed lane was checked to its end, so that it is not checked again.

        Returns why it is refused; empty text when it is not.
        """
        if lane in self._accepted:
            return ""
        scan = self._scans.get(lane)
        if scan is None or scan.rows < seal.rows:  # its writer went on after the last look
            found = self.look(lane)
            if found.refusal:
                return found.refusal
            scan = found.scan
        if scan is not None and scan.rows < seal.rows:
            return f"its seal says {seal.rows} rows and its log proves {scan.rows}"
        with contextlib.suppress(FileExistsError):
            write_new(self._files, accepted_path(self._directory, lane), [])
        self._files.sync_directory(self._directory)
        self._accepted.add(lane)
        self._scans.pop(lane, None)
        return ""

    def outstanding(self, sealed: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the producers of every ticket whose lane is not sealed, by lane."""
        done = {*sealed, *self._accepted}
        found: dict[str, frozenset[str]] = {}
        for lane in self.names():
            if lane in done or self._files.exists(accepted_path(self._directory, lane)):
                continue
            with contextlib.suppress(IsoglossError):
                ticket = self._ticket(lane)
                if ticket is not None:
                    found[lane] = frozenset(ticket.cursors)
        return found

    def _ticket(self, lane: str) -> DirectLaneTicket | None:
        known = self._tickets.get(lane)
        if known is not None:
            return known
        try:
            content = self._files.read_whole(ticket_path(self._directory, lane))
        except FileNotFoundError:
            return None
        ticket = DirectLaneTicket.from_bytes(content)
        found = (ticket.recording, ticket.lane, ticket.spec, ticket.shard_bytes)
        if found != (self._recording, lane, self._spec, self._shard_bytes):
            raise CorruptData(
                f"ticket {lane}.json is of lane {ticket.lane!r} of recording {ticket.recording}, "
                f"wanted {lane!r} of {self._recording} as it is described: remove it"
            )
        self._tickets[lane] = ticket
        return ticket

    def look(self, lane: str) -> DirectLook:
        """Find out whether a lane is a direct one, and what it proves.

        Args:
            lane: name of the lane.

        Returns:
            What was found; for a lane that is not direct, that.

        Raises:
            OSError: the disk failed, which says nothing about the lane.
        """
        if lane in self._plain:
            return _PLAIN
        if lane in self._accepted:
            return DirectLook(is_direct=True)
        try:
            ticket = self._ticket(lane)
            if ticket is None:
                return self._look_without_ticket(lane)
            is_fenced = self._files.exists(fence_path(self._directory, lane))
            if self._files.exists(accepted_path(self._directory, lane)):
                self._accepted.add(lane)
                return DirectLook(is_direct=True, is_fenced=is_fenced)
            scan = self._scan(ticket)
            return DirectLook(is_direct=True, is_fenced=is_fenced, scan=scan)
        except (IsoglossError, FileNotFoundError, ValueError) as error:
            return DirectLook(is_direct=True, refusal=str(error))

    def _look_without_ticket(self, lane: str) -> DirectLook:
        first = self._first_frame(lane)
        if first is None:
            return _PLAIN
        if first.get("direct") is not True:
            self._plain.add(lane)
            return _PLAIN
        raise NotPermitted(
            f"it says that it is a direct lane, and no ticket names it: nothing of it is read; gc "
            f"removes it, and a ticket put back into {TICKETS_NAME}/ lets it be read"
        )

    def _first_frame(self, lane: str) -> Mapping[str, object] | None:
        try:
            log = self._files.open(self._lanes / lane / LOG_NAME)
        except FileNotFoundError:
            return None
        try:
            frame = read_frame(self._files, log, 0, self._files.size(log))
            return None if frame is None else read_payload_json(frame.payload)[0]
        finally:
            self._files.close(log)

    def _scan(self, ticket: DirectLaneTicket) -> LaneScan | None:
        """Read on in the log of a lane; everything in the scan returned is durable."""
        directory = self._lanes / ticket.lane
        scan = self._scans.get(ticket.lane)
        if not self._files.exists(directory):
            return None
        if scan is None and self._files.can_map:
            check_tree(directory)
        if not self._files.exists(directory / LOG_NAME):
            return None
        log = self._files.open(directory / LOG_NAME)
        try:
            frames = 0 if scan is None else scan.frames
            scan = self._read_on(log, ticket, scan)
            if scan is None or scan.frames == frames:
                return scan
        finally:
            self._files.close(log)
        if frames and self._files.can_map:
            check_tree(directory)
        self._scans[ticket.lane] = scan
        return scan

    def _read_on(
        self, log: int, ticket: DirectLaneTicket, known: LaneScan | None
    ) -> LaneScan | None:
        # the caller may still hold the scan that was returned before
        scan = None if known is None else replace(known, cursors=dict(known.cursors))
        ends: dict[tuple[int, int], int] = {}
        start = (0, 0) if scan is None else (scan.log_bytes, scan.frames)
        stop = _end_of_heads(self._files, log, *start)
        for frame, is_newest in unscanned(self._files, log, known):
            if (
                frame.end > stop
            ):  # written since: stop here, so that a quick writer cannot keep this look going
                break
            if scan is None:
                header = LaneHeader.from_dict(read_payload_json(frame.payload)[0])
                if not ticket.is_header(header):
                    raise CorruptData(
                        f"frame 0 describes lane {header.lane!r} of recording {header.recording} "
                        f"in other shards than its ticket, which says {ticket.lane!r} of "
                        f"{ticket.recording}"
                    )
                scan = LaneScan(header=header, log_bytes=frame.end)
                continue
            commit = CommitFrame.from_payload(frame.payload)
            _check_commit(ticket, scan, commit, frame.number)
            directory = self._lanes / ticket.lane
            if is_newest and not is_durable(self._files, directory, log, commit):
                break
            for written in commit.ranges:
                key = (written.site, written.shard)
                ends[key] = max(ends.get(key, 0), written.offset + written.length)
            scan.add(commit, frame.end)
        self._check_shards(ticket.lane, ends)
        return scan

    def _check_shards(self, lane: str, ends: Mapping[tuple[int, int], int]) -> None:
        for (site, shard), end in ends.items():
            path = self._lanes / lane / site_directory(site) / shard_key(shard)
            descriptor = self._files.open(path)
            try:
                size = self._files.size(descriptor)
            finally:
                self._files.close(descriptor)
            if size < end:
                raise CorruptData(f"shard {shard} of site {site} has {size} bytes, its log {end}")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each lane of which nothing is read, and why."""
        for lane in sorted({*lane_names(self._files, self._lanes), *self.names()}):
            refusal = self.look(lane).refusal
            if refusal:
                yield lane, f"nothing of it is read: {refusal}"

    def spared(self) -> set[str]:
        """Return the lanes that garbage collection removes at a certain age only."""
        return {*self.names(), *(lane for lane, _ in self.problems())}

    def litter(self, older_s: float, missing: Set[str] = frozenset()) -> list[Path]:
        """Return lanes that prove no row, and files of tickets whose lane is gone.

        Args:
            older_s: only what was last changed so long ago; a writer may be about to begin.
            missing: lanes that should be there; their tickets stay, and what is left of them.

        Returns:
            The paths to be removed.
        """
        found: list[Path] = []
        for lane in lane_names(self._files, self._lanes):
            directory = self._lanes / lane
            is_old = lane not in missing and self._is_older(directory, older_s)
            if is_old and self._is_litter(lane):
                found.append(directory)
        for lane in self.names():
            if lane in missing or self._files.exists(self._lanes / lane):
                continue
            paths = [make(self._directory, lane) for make in _PATHS]
            there = [path for path in paths if self._files.exists(path)]
            if all(self._is_older(path, older_s) for path in there):
                found += there
        return found

    def _is_litter(self, lane: str) -> bool:
        """Whether a lane proves no row under its ticket and nobody holds its log.

        A refused lane that holds commits of its ticket's epoch stays: its writer acknowledged them.
        """
        look = self.look(lane)
        if not look.is_direct or has_writer(self._files, self._lanes / lane):
            return False
        if not look.refusal:
            has_ended = self._files.exists(accepted_path(self._directory, lane))
            return not has_ended and self._first_frame(lane) is None
        with contextlib.suppress(IsoglossError, OSError, ValueError):
            return self._ticket(lane) is None or not self._has_commits(lane)
        return True

    def _has_commits(self, lane: str) -> bool:
        log = self._files.open(self._lanes / lane / LOG_NAME)
        try:
            epoch = int(lane.partition(".")[2], 16)
            return any(frame.number for frame in read_frames(self._files, log, epoch=epoch))
        finally:
            self._files.close(log)

    def _is_older(self, path: Path, older_s: float) -> bool:
        return self._files.time_s() - self._files.modified_s(path) > older_s


def _end_of_heads(files: FileSystem, log: int, start: int, number: int) -> int:
    """Return where the frames of a log end now, as their heads say."""
    stop = files.size(log)
    while stop - start >= HEAD.size:
        try:
            head = HEAD.unpack(read_range(files, log, start, HEAD.size).tobytes())
        except (
            CorruptData
        ):  # shorter since: a writer that closes cuts off the space it had reserved
            break
        if head[0] != MAGIC or head[4] != number:
            break
        start += HEAD.size + head[5]
        number += 1
    return start


_PATHS = (ticket_path, fence_path, begun_path, accepted_path)


def _lane_of(name: str) -> str:
    """Return the lane that a file among the tickets is of; empty for half-written ones."""
    return "" if name.startswith(".") else name.rpartition(".")[0]


def _check_commit(
    ticket: DirectLaneTicket, scan: LaneScan, commit: CommitFrame, number: int
) -> None:
    """Raise an error for a commit that contradicts its lane's ticket."""
    where = f"frame {number}"
    if commit.first_row != scan.rows or commit.rows < 1 or commit.columns.rows != commit.rows:
        raise CorruptData(
            f"{where} has {commit.rows} rows from {commit.first_row}, wanted some from {scan.rows}"
        )
    if (commit.columns.span is not None) != ticket.spec.has_spans:
        raise CorruptData(f"{where} and the recording differ on whether rows have spans")
    found = sorted((r.site, r.shard, r.offset, r.length) for r in commit.ranges)
    if found != _expected_ranges(ticket, commit.first_row, commit.rows):
        raise CorruptData(f"{where} names other bytes than those of its {commit.rows} rows")
    for producer, sequence in commit.cursors.items():
        before = scan.cursors.get(producer, ticket.cursors.get(producer))
        if before is None or sequence <= before:
            raise CorruptData(
                f"{where} ends batch {sequence} of producer {producer!r} after {before}: its "
                f"ticket is for {sorted(ticket.cursors)}"
            )


def _expected_ranges(
    ticket: DirectLaneTicket, first_row: int, rows: int
) -> list[tuple[int, int, int, int]]:
    """Return the sorted (site, shard, offset, length) that a commit of these rows writes."""
    found: list[tuple[int, int, int, int]] = []
    for index, layout in enumerate(ticket.layouts):
        row = first_row
        while row < first_row + rows:
            shard, offset = layout.row_offset(row)
            count = min(first_row + rows - row, layout.shard_rows - row % layout.shard_rows)
            found.append((index, shard, offset, count * layout.row_bytes))
            row += count
    return found
