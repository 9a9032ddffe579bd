"""Records of a fenced recording that say which lanes were joined, created one after the other.

Where no lock can be trusted, two owners may work on a recording at the same time: one that was
stopped in the middle, and its successor. Each row must still count once. So a joined lane counts
only from the exclusive creation of the next record of this sequence on::

    joins/<sequence>    one frame each, from 1; never removed

A record names a joined lane and the lanes it holds, or is a mark, which names none. An owner
creates a mark before it chooses what to join, and the record of the joined lane must come right
after that mark. Its successor creates a mark too, before it removes, joins or rounds anything. That
takes the sequence number which the first owner needs: its record cannot be created any more, and
the lane that it wrote never counts.
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
    """One record: a joined lane and the lanes it holds; or a mark, which names none."""

    owner: int
    """Epoch of the owner that wrote it."""

    lane: str = ""
    """The joined lane; empty for a mark."""

    joined: tuple[str, ...] = ()
    """The lanes it holds, which count no more."""

    is_open: bool = False
    """Whether its owner was going to create the next record too."""

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
        files: the file system that the recording is on.
        directory: the recording's directory.
    """

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._directory = directory / JOINS
        self._known: list[Join] = []

    @property
    def joined(self) -> frozenset[str]:
        """The lanes that no longer count, by the records that were read last."""
        return frozenset(name for join in self._known for name in join.joined)

    def counting(self, in_shards: Iterable[str]) -> list[str]:
        """Return the lanes that are not joined into others, by the records that were read last.

        Args:
            in_shards: the lanes whose rows were moved to shards.

        Returns:
            Their names, sorted.
        """
        made = (join.lane for join in self._known if join.lane)
        return sorted({*in_shards, *made} - self.joined)

    def read(self) -> list[Join]:
        """Read the records that are new.

        Returns:
            All records, in order.

        Raises:
            CorruptData: a record cannot be read.
        """
        names = set(self._files.names(self._directory))
        if names and not self._files.is_remote:  # what is seen is durable
            if not self._known:  # whoever made the directory may have been killed right after
                self._files.sync_directory(self._directory.parent)
            self._files.sync_directory(self._directory)
        paths: list[Path] = []
        while (path := self._path(len(self._known) + 1 + len(paths))).name in names:
            paths.append(path)
        for content in read_files(self._files, paths):
            number = len(self._known) + 1
            self._known.append(_read_join(content, number, f"join {number} of {self._directory}"))
        return self._known

    def append(self, join: Join) -> None:
        """Create a record right after the last one, which must be this owner's and open.

        Args:
            join: the record.

        Raises:
            Fenced: another owner created a record at that place.
            UncertainRecord: nobody knows whether the record was created; the next :meth:`mark`
                finds out.
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
        if not self._known and not self._files.is_remote:
            self._files.sync_directory(self._directory.parent)
        content = encode_record(KIND_JOIN, join.owner, number, join.to_dict())
        self._files.create_record(self._path(number), content)
        self._known.append(join)

    def mark(self, owner: int, *, is_open: bool) -> None:
        """Create a mark, so that no older owner can create its next record any more.

        Args:
            owner: epoch of this owner.
            is_open: whether it is going to join lanes. If not, nothing is created unless another
                owner may be joining lanes just now.

        Raises:
            Fenced: a newer owner created a record.
        """
        while True:
            known = self.read()
            newest = max((join.owner for join in known), default=0)
            if newest > owner:
                raise Fenced(
                    f"{self._directory.parent} is worked on by the owner of epoch {newest}, and "
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
