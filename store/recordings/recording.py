"""Recordings: open lanes to write, take pinned readers, do upkeep."""

import contextlib
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from isogloss.errors import Conflict, InvalidInput, NotFound, StorageError, StoreOwned
from isogloss.store.direct.lanes import DirectLanes
from isogloss.store.direct.register import DirectRegister
from isogloss.store.direct.ticket import DirectLaneTicket, check_producers
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.formats.documents import read_strings
from isogloss.store.formats.zarr_arrays import read_arrays
from isogloss.store.lanes.lane_statistics import lane_statistics
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.recording_version import STEPS_VERSION, read_version
from isogloss.store.lanes.resolve import LaneRange, resolve
from isogloss.store.lanes.state import LaneState, all_cursors, check_known
from isogloss.store.lanes.statistics import SiteStatistics
from isogloss.store.lanes.writer import LaneWriter, OwnerLaneWriter
from isogloss.store.reading.reader import RecordingReader, Reopen
from isogloss.store.recordings.lane_list import LaneList
from isogloss.store.recordings.manifest import MissingLane
from isogloss.store.recordings.recording_files import read_description
from isogloss.store.schema.document import DocumentTable
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.schema.revision import Revision
from isogloss.store.shards.layout import ShardLayout
from isogloss.store.shards.quantised import QuantisationError
from isogloss.store.upkeep.join import Compaction, default_max_rows
from isogloss.store.upkeep.upkeep import LaneUpkeep, OnLaneProgress
from isogloss.store.upkeep.verify import Problem


class Recording:
    """The activations of one model over one corpus. A :class:`Store` returns it."""

    def __init__(
        self,
        *,
        files: FileSystem,
        directory: Path,
        etag: str,
        is_owner: bool,
        reopen: Reopen | None = None,
    ) -> None:
        self._files = files
        self._reopen = reopen
        self._directory = directory
        self._is_owner = is_owner
        self.etag = etag
        """Changes with every change of the recording's entry in the catalog."""
        self._spec, self._shard_bytes = read_description(files, directory)
        self._register = DirectRegister(files, directory, self._spec, self._shard_bytes)
        self._lanes = self._list_lanes()
        self._lock = self._lanes.lock
        self._direct = DirectLanes(
            self.id, self._register, self.present_lanes, self._lanes.new_name
        )
        self._working = threading.RLock()
        self._has_steps = False
        self._upkeep = LaneUpkeep(files, directory, self._spec, self._lanes.seals)

    def _list_lanes(self) -> LaneList:
        return LaneList(
            self._files, self._directory, self._spec, self._register, is_owner=self._is_owner
        )

    @property
    def id(self) -> str:
        """Id of the recording in the store, as given when it was created."""
        return self._spec.recording

    @property
    def uid(self) -> str:
        """Name of the recording's directory; no other recording ever gets the same."""
        return self._directory.name

    @property
    def spec(self) -> RecordingSpec:
        """Description of the recording: model, tokenizer, corpus and sites."""
        return self._spec

    @property
    def directory(self) -> Path:
        """The directory of the recording's files."""
        return self._directory

    @property
    def files(self) -> FileSystem:
        """The file operations with which the recording is read and written."""
        return self._files

    def vocabulary(self) -> tuple[str, ...]:
        """Return the token strings of the tokenizer; token id i is the i-th."""
        arrays, _ = read_arrays(self._directory / "vocabulary", files=self._files)
        return tuple(t.decode("utf-8", "surrogatepass") for t in read_strings(arrays, "token"))

    def lanes(self) -> list[LaneState]:
        """Return what is committed in each lane, in the order in which their rows are numbered.

        Joined lanes are left out. The store's owner first seals each lane whose writer died.

        Returns:
            The states of the lanes.

        Raises:
            NotFound: the recording was deleted.
            CorruptData: a lane is missing that the manifest names.
            StorageError: a directory or a log cannot be read.
        """
        return self._lanes.states()

    def present_lanes(self) -> list[LaneState]:
        """Return what :meth:`lanes` does, of the lanes that are there, though others are missing.

        Returns:
            The states of the lanes.

        Raises:
            NotFound: the recording was deleted.
            StorageError: a directory or a log cannot be read.
        """
        return self._lanes.found()[0]

    def missing_lanes(self) -> list[MissingLane]:
        """Return the lanes that the manifest names and the disk lacks.

        While there is one, the recording is neither read nor written: restore the lanes, or go on
        without them (:meth:`give_up`).

        Returns:
            The lanes, sorted by name.

        Raises:
            NotFound: the recording was deleted.
            StorageError: a directory or a log cannot be read.
        """
        return self._lanes.found()[1]

    def give_up(self) -> list[MissingLane]:
        """Go on without the lanes that are missing, for good; this is written down.

        Their rows are lost, and do not count should their files come back later. Their producers go
        on behind what was acknowledged. Where the manifest does not know how far that was, they go
        on under other names only, which :meth:`cursor` says.

        Returns:
            The lanes that were given up; none where none is missing.

        Raises:
            StoreOwned: this process does not own the store.
            StorageError: the loss could not be written down; try again.
        """
        with (
            self._work_alone(),
            self._lock,
            storage_errors(f"missing lanes of {self.id!r} cannot be given up"),
        ):
            missing = self._lanes.found()[1]
            self._lanes.manifest.give_up(missing)
            return missing

    def known_revision(self) -> Revision:
        """Return the revision that names all rows committed now, also those that are missing.

        It says how large a recording is that lacks lanes, as far as that is known. No reader takes
        it while one is missing.
        """
        states, missing = self._lanes.found()
        rows = [(lane.name, lane.rows) for lane in (*states, *missing) if lane.rows]
        return Revision(recording=self.uid, lanes=tuple(sorted(rows)))

    def revision(self) -> Revision:
        """Return the revision that names all rows committed now, to read or train on later."""
        lanes = tuple((lane.name, lane.rows) for lane in self.lanes() if lane.rows)
        return Revision(recording=self.uid, lanes=lanes)

    def cursor(self, producer: str) -> int:
        """Return the last committed sequence number of a producer; 0 when it has none.

        Raises:
            Conflict: a lane was given up of which it is not known how far its producers were, and
                the producer's name is not one that can only have been given since.
        """
        states = self.lanes()
        check_known(self.id, states, [producer])
        return max((lane.cursors.get(producer, 0) for lane in states), default=0)

    def open_lane(self, limits: LaneLimits | None = None) -> LaneWriter:
        """Start a new lane. Each producer continues after its last committed batch of any lane.

        Args:
            limits: how large the recording may grow; by default until the disk is nearly full.

        Returns:
            The lane's writer.

        Raises:
            StoreOwned: this process does not own the store.
            Conflict: the lane that this process opened before still takes batches.
            StorageError: the lane could not be created.
        """
        if not self._is_owner:
            raise StoreOwned(
                f"recording {self.id!r} was opened by Store.attach, which only reads: append "
                "through the owner"
            )
        with self._lock:
            writer = self._lanes.writer
            if writer is not None and writer.is_open:
                raise Conflict(
                    f"lane {writer.name!r} of recording {self.id!r} is open: append to it, or "
                    "close it first"
                )
            states = self.lanes()
            writer = self._new_lane(
                all_cursors(states),
                DocumentTable.of_lanes(self._lanes.documents(states)),
                limits or LaneLimits(),
                sum(state.rows for state in states),
            )
            self._lanes.writer = writer
            writer.lend(self._direct.producers())
            return writer

    def offer_direct_lane(
        self, producers: Sequence[str], limits: LaneLimits | None = None
    ) -> DirectLaneTicket:
        """Make a ticket with which another process on the same storage can write a lane itself.

        From now on batches of these producers go to that lane only, until its writer closes it or
        dies, or :meth:`end_direct_lane` ends it. An earlier ticket for one of the producers is
        withdrawn, unless its writer has begun.

        Args:
            producers: names of the streams of batches that the lane takes.
            limits: how large the recording may grow; lanes written at a time count their own rows
                only.

        Returns:
            The ticket, for :func:`open_direct_lane` in the other process.

        Raises:
            StoreOwned: this process does not own the store.
            Conflict: one of the producers is writing a direct lane, or :meth:`cursor` refuses it.
            InvalidInput: there is no producer or too many, or the store is not in a directory.
        """
        self._owned()
        if not self._files.can_map:
            raise InvalidInput(
                "direct lanes need a store in a directory that both processes see: append through "
                "the owner"
            )
        check_producers(dict.fromkeys(producers, 0))
        with self._lock, storage_errors(f"no direct lane can be offered of {self.id!r}"):
            # refuses where a lane is missing, or was, whose cursors nobody knows
            check_known(self.id, self.lanes(), producers)
            ticket = self._direct.offer(producers, limits or LaneLimits())
            if self._lanes.writer is not None:
                self._lanes.writer.lend(producers)
            return ticket

    def claim(self, producers: Iterable[str]) -> None:
        """Raise an error unless this process may append batches of these producers.

        Tickets for them are withdrawn, unless their writers have begun.

        Args:
            producers: names of the streams of batches.

        Raises:
            StoreOwned: this process does not own the store.
            Conflict: one of the producers is writing a direct lane.
        """
        self._owned()
        with self._lock:
            self._direct.claim(producers)

    def has_lent(self, producer: str) -> bool:
        """Whether the lane open here refuses a producer, since a direct lane has or had it."""
        writer = self._lanes.writer
        return writer is not None and writer.is_open and writer.has_lent(producer)

    def end_direct_lane(self, name: str) -> LaneState:
        """End a direct lane whose writer hangs. Its acknowledged rows stay; none can follow.

        Args:
            name: the lane's name.

        Returns:
            What is committed in the lane, now sealed.

        Raises:
            StoreOwned: this process does not own the store.
            NotFound: there is no such direct lane, or its writer has not created it.
        """
        self._owned()
        with self._lock:
            return self._direct.end(name)

    def has_steps(self) -> bool:
        """Whether rows may have a training step other than 0; without a look at any row.

        Raises:
            NotFound: the recording was deleted.
        """
        if not self._has_steps:  # other processes write lanes too
            self._has_steps = read_version(self._files, self._directory) == STEPS_VERSION
        return self._has_steps

    def known_documents(self) -> DocumentTable:
        """Return the documents that a batch with rows of them need not describe again."""
        return DocumentTable.of_lanes(self._lanes.documents(self.lanes()))

    def _new_lane(
        self,
        cursors: Mapping[str, int],
        documents: DocumentTable,
        limits: LaneLimits,
        rows_before: int,
    ) -> OwnerLaneWriter:
        header = self._new_header()
        with storage_errors(f"no lane can be created for recording {self.id!r}"):
            return OwnerLaneWriter(
                files=self._files,
                directory=self._directory / "lanes" / header.lane,
                spec=self._spec,
                header=header,
                cursors=cursors,
                documents=documents,
                limits=limits,
                rows_before=rows_before,
            )

    def _new_header(self) -> LaneHeader:
        """Return frame 0 of a lane that does not exist yet."""
        name = self._lanes.new_name()
        return LaneHeader(
            recording=self.uid,
            lane=name,
            epoch=int(name.partition(".")[2], 16),
            layouts=tuple(
                ShardLayout.for_site(site, self._shard_bytes) for site in self._spec.sites
            ),
            created_s=self._files.time_s(),
        )

    def reader(self, revision: Revision | None = None) -> RecordingReader:
        """Return a reader of one revision; rows committed later are not seen.

        Args:
            revision: the revision to read; all that is committed now by default.

        Returns:
            The reader.

        Raises:
            NotFound: the revision is of another recording, or names a lane that was removed.
            CorruptData: it names more rows than are left of a lane that a disk damaged.
            InvalidInput: it names more rows than a lane that is whole has.
        """
        revision = revision or self.revision()
        lanes = [self._lanes.range_files(found) for found in self._resolve(revision)]
        retired = [self._lanes.lane_files(s.name, 0) for s in self.lanes() if s.is_retired]
        return RecordingReader(self._spec, revision, lanes, retired, self._reopen)

    def _resolve(self, revision: Revision) -> list[LaneRange]:
        if revision.recording != self.uid:
            raise NotFound(
                f"revision {revision.id} is of recording uid {revision.recording}, not of "
                f"{self.uid} ({self.id!r})"
            )
        return resolve(revision, self.lanes())

    def statistics(self, site: str, revision: Revision | None = None) -> SiteStatistics:
        """Return count, mean and spread of the rows of one site.

        Sealed lanes are measured once and kept; others are read through.

        Args:
            site: name of the site.
            revision: the revision whose rows count; all that is committed now by default.

        Returns:
            The statistics, with the revision whose rows they count.

        Raises:
            NotFound: the recording has no such site.
        """
        index = self._spec.site_index(site)
        revision = revision or self.revision()
        total = SiteStatistics.empty(self._spec.sites[index].width)
        for found in self._resolve(revision):
            lane = self._lanes.range_files(found)
            keep = found.is_sealed_lane
            total = total.merge(
                lane_statistics(self._files, lane, index, keep=keep, write=self._is_owner)
            )
        return replace(total, revision=revision.id)

    def derive(self) -> None:
        """Write columns, documents and statistics of those sealed lanes that lack them."""
        if self._is_owner:
            self._upkeep.derive(self.lanes())

    def retire(self, max_rows: int) -> int:
        """Remove the oldest sealed lanes until at most ``max_rows`` rows are left.

        Producers go on where they were, documents stay, and the numbers of the rows that are left
        begin at 0 again in new revisions. Revisions that name a retired lane cannot be read any
        more, but by readers that are already reading.

        Args:
            max_rows: how many rows may stay.

        Returns:
            How many rows were removed. The lane that is being written is never removed.

        Raises:
            StoreOwned: this process does not own the store.
        """
        with self._work_alone(), self._lock:
            return self._upkeep.retire(self.lanes(), max_rows)

    def verify(self, on_progress: OnLaneProgress | None = None) -> list[Problem]:
        """Compare every stored byte with its checksum.

        Reads everything, through the page cache. Damage is returned and not raised.

        Args:
            on_progress: called after each commit that was checked; if it raises, the check stops.

        Returns:
            The problems found; empty when there is none.
        """
        states, damaged = self._lanes.readable()
        damaged += self._back_again(states)
        states = [state for state in states if not state.is_lost]
        try:
            self.vocabulary()
        except (StorageError, NotFound, UnicodeDecodeError) as error:
            damaged.append(("", f"vocabulary: {error}"))
        broken = [lane for lane, _ in damaged]
        with self._lock:
            damaged += self._register.problems()  # of lanes of which nothing is read
        found = [Problem(recording=self.id, lane=lane, message=text) for lane, text in damaged]
        return found + self._upkeep.verify(states, on_progress, broken)

    def _back_again(self, states: Sequence[LaneState]) -> list[tuple[str, str]]:
        """Return the lanes that were given up and whose files are there now, with a sentence."""
        advice = "it was given up, so its files, which are there again, do not count: remove them"
        return [
            (state.name, f"{advice}, or remove manifest/{state.name}.lost to take them back")
            for state in states
            if state.is_lost and self._files.exists(self._directory / "lanes" / state.name)
        ]

    def drop_litter(self, older_s: float = 86_400.0) -> int:
        """Remove files that crashes left behind: half-written files, lanes that never began.

        Args:
            older_s: leave direct lanes that have not begun and changed in the last so many seconds.

        Returns:
            How many files and directories were removed; none while lanes are being compacted,
            compressed or quantised, whose half-written files are no litter.

        Raises:
            StoreOwned: this process does not own the store.
        """
        self._owned()
        if not self._working.acquire(blocking=False):
            return 0
        try:
            with (
                self._work_alone(),
                self._lock,
                storage_errors(f"litter of {self.id!r} cannot be found"),
            ):
                states, missing = self._lanes.found()
                kept = {lane.name for lane in missing} | {s.name for s in states if s.is_lost}
                more = self._register.litter(older_s, kept)
                return self._upkeep.drop_litter(states, {*self._register.spared(), *kept}, more)
        finally:
            self._working.release()

    def compact(
        self, *, max_rows: int | None = None, on_progress: OnLaneProgress | None = None
    ) -> Compaction:
        """Join neighbouring sealed lanes into longer ones; rows keep their order and numbers.

        Revisions taken before stay readable and give the same bits, and readers that are open go
        on. Cursors, documents and notes of damage are kept. Sites that were compressed are
        compressed again; lanes with a quantised site stay as they are. Each byte is checked on its
        way, and read back before the old lanes are removed.

        Args:
            max_rows: join lanes up to this number of rows; by default 16 shards of the site with
                the widest rows, about 1 GiB of it.
            on_progress: called after each commit that was copied; if it raises, the work stops and
                the lanes that were being joined stay as they were.

        Returns:
            How many lanes were joined, and into how many.

        Raises:
            StoreOwned: this process does not own the store.
            CorruptData: rows do not match the checksums of their commits; nothing was removed.
            InvalidInput: ``max_rows`` is not positive.
        """
        with self._work_alone():
            self._finish_ended_lanes()
            if max_rows is None:
                layouts = [ShardLayout.for_site(s, self._shard_bytes) for s in self._spec.sites]
                max_rows = default_max_rows(layouts)
            return self._upkeep.compact(self.lanes(), max_rows, self._lock, on_progress)

    def compress(self, on_progress: OnLaneProgress | None = None) -> int:
        """Compress the rows of all sealed lanes, lossless, about 1.4 times smaller on real rows.

        Reading them stays exact and becomes slower; pinned readers may go on meanwhile.

        Args:
            on_progress: called after each site of a lane; if it raises, the work stops there.

        Returns:
            How many sites of lanes were compressed.

        Raises:
            StoreOwned: this process does not own the store.
            CorruptData: rows do not match the checksums of their commits; nothing was removed.
        """
        with self._work_alone():
            self._finish_ended_lanes()
            return self._upkeep.compress(self.lanes(), on_progress)

    def quantise(
        self, sites: Sequence[str] | None = None, on_progress: OnLaneProgress | None = None
    ) -> Mapping[str, QuantisationError]:
        """Round the rows of all sealed lanes to 8 bits a number. This cannot be undone.

        LOSSY. One scale a row (max|x| / 127); a row with NaN or infinity reads back as NaN
        throughout. Statistics stay those of the rows as they were recorded. Revisions name the same
        rows and read the rounded ones from now on; readers that are open may give either.

        Args:
            sites: names of the sites; all by default.
            on_progress: called after each site of a lane; if it raises, the work stops there.

        Returns:
            For each of these sites the measured error over all its rounded rows.

        Raises:
            UnknownSite: the recording has no such site; nothing changed.
            StoreOwned: this process does not own the store.
            CorruptData: rows do not match the checksums of their commits; they were not touched.
        """
        self._owned()
        chosen = [site.name for site in self._spec.sites] if sites is None else list(sites)
        indices = sorted({self._spec.site_index(name) for name in chosen})
        with self._work_alone():
            self._finish_ended_lanes()
            self._upkeep.quantise(self.lanes(), indices, on_progress)
        measured = self.quantisation()
        return {name: measured.get(name, QuantisationError.none()) for name in chosen}

    def quantisation(self) -> dict[str, QuantisationError]:
        """Return the measured error of each site that is rounded in some lane, by site name."""
        with storage_errors(f"recording {self.id!r} cannot be read"):
            return self._upkeep.quantisation(self.lanes())

    @contextlib.contextmanager
    def _work_alone(self) -> Generator[None]:
        """Let one thread of the owner work on the lanes at a time.

        Raises:
            StoreOwned: this process does not own the store.
        """
        self._owned()
        with self._working:
            yield

    def _finish_ended_lanes(self) -> None:
        """Do nothing: :meth:`lanes` seals the lanes that ended, and their rows are in shards."""

    def _owned(self) -> None:
        if not self._is_owner:
            raise StoreOwned(f"recording {self.id!r} was attached, not opened: only its owner may")

    @property
    def is_writing(self) -> bool:
        """Whether a lane opened here, or a direct one, takes batches."""
        writer = self._lanes.writer
        if writer is not None and writer.is_open:
            return True
        return any(state.is_direct and state.seal is None for state in self.present_lanes())

    def close(self) -> None:
        """Close the lane that this process has open, if any."""
        with self._lock:
            if self._lanes.writer is not None:
                self._lanes.writer.close()
