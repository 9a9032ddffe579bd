"""End a fenced lane whose writer is gone, or must be."""

import contextlib
import logging

from isogloss.errors import CorruptData, MissingRecord
from isogloss.store.fenced.records import (
    KIND_FENCE,
    Fence,
    LaneRecords,
    encode_record,
    group_problem,
    record_kind,
)
from isogloss.store.fenced.scan import FencedScan, cut_scan, end_scan, scan_records
from isogloss.store.lanes.log_scan import CHECKED_BYTES

_log = logging.getLogger(__name__)


def fence_lane(records: LaneRecords, scan: FencedScan, owner: int) -> FencedScan:
    """End a lane whose writer is gone or must stop; it can acknowledge nothing any more.

    Args:
        records: the lane's records.
        scan: the records of the lane that were read so far.
        owner: epoch of the store's owner, this process.

    Returns:
        The scan with the fence: the one made now, or one that was there before.

    Raises:
        CorruptData: the lane's first record or a fence cannot be read.
        MissingRecord: a record is not there and a later one is; no fence was made.
        OSError: the fence could not be written.
    """
    damage = ""
    try:
        scan = scan_records(records, scan)
    except MissingRecord:
        raise  # it can be restored, unless a fence takes its place
    except CorruptData as error:
        damage = str(error)
    if scan.fence is not None:
        return scan
    bad = None if records.files.is_remote else _first_bad(records, scan)
    if bad is not None:
        damage = f"rows of commit {bad + 1} of lane {records.name!r} do not match their checksum"
        cut_scan(scan, bad)
    commits = len(scan.commits) if damage else None
    fence = Fence(owner=owner, reason="recovered", commits=commits, damage=damage)
    place = _create_fence(records, scan, fence)
    if damage:
        before = range(scan.next, place)
        if all(record_kind(records, sequence) != KIND_FENCE for sequence in before):
            _log.error("lane %s: cut to %d rows: %s", records.name, scan.rows, damage)
            scan.next = place
            end_scan(scan, fence)
            return scan
        scan = FencedScan(header=scan.header, owner=scan.owner)
    scan = scan_records(records, scan)
    if scan.next != place:  # another fence stands before ours, which then has no effect
        with contextlib.suppress(OSError):
            records.files.remove(records.commit(place))
    return scan


def _create_fence(records: LaneRecords, scan: FencedScan, fence: Fence) -> int:
    """Create a fence behind the last commit; return its sequence number.

    A writer that is alive may commit meanwhile, with two requests for each commit. Here each try is
    one request, so the fence soon gets ahead of it.
    """
    sequence = scan.next
    while True:
        content = encode_record(KIND_FENCE, scan.header.epoch, sequence, fence.to_dict())
        try:
            records.files.create_record(records.commit(sequence), content, look=False)
        except FileExistsError:
            sequence += 1
        else:
            return sequence


def _first_bad(records: LaneRecords, scan: FencedScan) -> int | None:
    """Return the index of the first commit whose rows are not on the disk; None if all are."""
    first, length = len(scan.commits), 0
    while first > 0 and (first == len(scan.commits) or length < CHECKED_BYTES):
        first -= 1
        length += sum(written.length for written in scan.commits[first].ranges)
    for index in range(first, len(scan.commits)):
        for written in scan.commits[index].ranges:
            if group_problem(records, written, reread=True):
                return index
    return None
