"""Which lanes of a fenced recording were joined: records created one after the other.

Where no lock can be trusted two owners may care for a recording at once: one that fell asleep in
the middle and its successor. So that each row counts once, a joined lane counts from the exclusive
creation of the next record of this sequence on, and by nothing else::

    joins/<sequence>    one frame each, from 1; never removed

A record is a mark, or names a joined lane and the lanes it holds. An owner sets a mark before it
chooses what to join, and its successor sets one before it removes, joins or rounds anything; then
the number that the first would need is taken, and the lane it wrote never counts.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import CorruptData, Fenced
from isogloss.store.disk.filesystem import FileSystem, make_directories, read_files
from isogloss.store.fenced.records import encode_record, parse_record
from isogloss.store.lanes.log_frames import read_payload_json
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    check_version,
    get_count,
    get_items,
    get_text,
)
from isogloss.store.schema.names import check_lane_name

JOINS = "joins"
KIND_JOIN = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """One record: lanes became one; or a mark, which only takes a number."""

    owner: int
    """Epoch of the owner that wrote it."""

    lane: str = ""
    """The joined lane; empty for a mark."""

    joined: tuple[str, ...] = ()
    """The lanes it holds, which count no more."""

    is_open: bool = False
    """Whether its owner was going to write more records."""

    def to_dict(self) -> dict[str, object]:
        """Return the record as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "owner": self.owner,
            "lane": self.lane,
            "joined": list(self.joined),
            "is_open": self.is_open,
        }


class JoinRecords:
    """The records of one fenced recording; not thread-safe.

    Args:
        files: where the recording lies.
        directory: of the recording.
    """

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._directory = directory / JOINS
        self._known: list[Join] = []

    @property
    def joined(self) -> frozenset[str]:
        """The lanes that count no more, by the records that were read last."""
        return frozenset(name for join in self._known for name in join.joined)

    def counting(self, settled: Iterable[str]) -> list[str]:
        """Return the names of the lanes that count, sorted, by the records that were read last.

        Args:
            settled: the lanes that were born and settled.
        """
        made = (join.lane for join in self._known if join.lane)
        return sorted({*settled, *made} - self.joined)

    def read(self) -> list[Join]:
        """Return all records, in order.

        Raises:
            CorruptData: one cannot be read.
        """
        names = set(self._files.names(self._directory))
        if names and not self._files.is_remote:
            self._files.sync_directory(self._directory)  # what is seen is durable
        paths: list[Path] = []
        while (path := self._path(len(self._known) + 1 + len(paths))).name in names:
            paths.append(path)
        for content in read_files(self._files, paths):
            number = len(self._known) + 1
            self._known.append(_read_join(content, number, f"join {number} of {self._directory}"))
        return self._known

    def go_on(self, join: Join) -> None:
        """Create a record behind this owner's own last one, which was open.

        Raises:
            Fenced: another owner's stands there.
            UncertainRecord: whether it was created is not known: it is, or is not, behind the next
                mark.
        """
        last = self._known[-1] if self._known else None
        if last is not None and last.owner == join.owner and last.is_open:
            with contextlib.suppress(FileExistsError):
                self._create(join)
                return
        raise Fenced(
            f"lane {join.lane!r} does not count: another owner took the store over while it was "
            f"joined from {list(join.joined)}, which stay; open the store again"
        )

    def _create(self, join: Join) -> None:
        number = len(self._known) + 1
        make_directories(self._files, self._directory)
        content = encode_record(KIND_JOIN, join.owner, number, join.to_dict())
        self._files.create_record(self._path(number), content)
        self._known.append(join)

    def mark(self, owner: int, *, is_open: bool) -> None:
        """Take the next number, so that no older owner's record can be created any more.

        Args:
            owner: epoch of this owner.
            is_open: whether it goes on to join lanes. If not, nothing is written where nobody can
                be in the middle of that.

        Raises:
            Fenced: a newer owner set a mark.
        """
        while True:
            known = self.read()
            newest = max((join.owner for join in known), default=0)
            if newest > owner:
                raise Fenced(
                    f"{self._directory.parent} is cared for by the owner of epoch {newest}, and "
                    f"this one is of epoch {owner}: open the store again"
                )
            if not is_open and not (known and known[-1].is_open):
                return
            try:
                self._create(Join(owner=owner, is_open=is_open))
            except FileExistsError:
                continue
            return

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:016d}"


def _read_join(content: bytes, number: int, what: str) -> Join:
    frame = parse_record(content, number, what)
    if frame.kind != KIND_JOIN:
        raise CorruptData(f"{what} is a frame of kind {frame.kind}: run verify")
    try:
        document, _ = read_payload_json(frame.payload)
        check_version(document, "join")
        join = Join(
            owner=get_count(document, "owner"),
            lane=get_text(document, "lane"),
            joined=tuple(str(item) for item in get_items(document, "joined")),
            is_open=document.get("is_open") is True,
        )
        for name in (join.lane, *join.joined) if join.lane else join.joined:
            check_lane_name(name)
    except ValueError as error:
        raise CorruptData(f"{what} cannot be read: {error}") from error
    return join
