"""Recordings: lanes in, pinned readers out."""

import contextlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isogloss.errors import Conflict, CorruptData, NotFound, StorageError, StoreOwned
from isogloss.store import signed_json
from isogloss.store.arrays import GroupWriter, read_arrays, write_arrays
from isogloss.store.documents import Document, DocumentTable
from isogloss.store.filesystem import FileSystem, read_file, remove_tree, storage_errors, write_new
from isogloss.store.lane_files import (
    LaneFiles,
    check_ranges,
    compress_site,
    derive_columns,
    read_strings,
    write_strings,
)
from isogloss.store.lanes import LaneWriter
from isogloss.store.limits import LaneLimits
from isogloss.store.readers import RecordingReader
from isogloss.store.retention import retire_lane, sweep_retired
from isogloss.store.seals import (
    LOG_NAME,
    LaneHeader,
    LaneScan,
    Seal,
    is_being_born,
    lane_names,
    read_seal,
    scan_log,
    settle_lane,
)
from isogloss.store.shards import DEFAULT_SHARD_BYTES, ShardLayout
from isogloss.store.specs import (
    SCHEMA_VERSION,
    RecordingSpec,
    Revision,
    get_count,
    get_mapping,
)
from isogloss.store.statistics import BLOCK_ROWS, SiteStatistics, measure
from isogloss.store.verifying import LaneVerifier, Problem

STATISTICS_NAME = "statistics"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneState:
    """What is committed in a lane."""

    name: str
    """Name of the lane."""

    rows: int
    """Committed rows."""

    cursors: Mapping[str, int]
    """Last durable sequence number of the producers that wrote here."""

    seal: Seal | None
    """Its seal; None while its writer lives, or nobody settled it yet."""

    @property
    def is_retired(self) -> bool:
        """Whether its rows were removed to make room."""
        return self.seal is not None and self.seal.reason == "retired"


class Recording:
    """The activations of one model over one corpus. Obtained from a :class:`Store`."""

    def __init__(self, *, files: FileSystem, directory: Path, etag: str, is_owner: bool) -> None:
        self._files = files
        self._directory = directory
        self._is_owner = is_owner
        self.etag = etag
        """Changes with every change of the recording's entry in the catalog."""
        self._spec, self._shard_bytes = _read_description(files, directory)
        self._lock = threading.RLock()
        self._writer: LaneWriter | None = None
        self._seals: dict[str, Seal] = {}
        self._scans: dict[str, LaneScan] = {}

    @property
    def id(self) -> str:
        """Resource id."""
        return self._spec.recording

    @property
    def uid(self) -> str:
        """Identifier that is never used again."""
        return self._directory.name

    @property
    def spec(self) -> RecordingSpec:
        """What is recorded."""
        return self._spec

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._directory

    def vocabulary(self) -> tuple[str, ...]:
        """Return the token strings of the tokenizer; token id i is the i-th."""
        arrays, _ = read_arrays(self._directory / "vocabulary", files=self._files)
        return tuple(t.decode("utf-8", "surrogatepass") for t in read_strings(arrays, "token"))

    def lanes(self) -> list[LaneState]:
        """Return the lanes that were fully created, in the order their rows are numbered."""
        with self._lock, storage_errors(f"lanes of recording {self.id!r} cannot be read"):
            names = lane_names(self._files, self._directory / "lanes")
            states = [self._lane_state(name) for name in names]
            return [state for state in states if state is not None]

    def _lane_state(self, name: str) -> LaneState | None:
        writer = self._writer
        if writer is not None and writer.name == name and writer.is_open:
            return LaneState(name=name, rows=writer.rows, cursors=writer.own_cursors, seal=None)
        seal = self._seals.get(name)
        if seal is None:
            directory = self._directory / "lanes" / name
            seal = (
                settle_lane(self._files, directory, self._spec)
                if self._is_owner
                else read_seal(self._files, directory)
            )
        if seal is not None:
            self._seals[name] = seal
            return LaneState(name=name, rows=seal.rows, cursors=seal.cursors, seal=seal)
        scan = self._scan(name)
        if scan is None:
            return None
        return LaneState(name=name, rows=scan.rows, cursors=dict(scan.cursors), seal=None)

    def _scan(self, name: str) -> LaneScan | None:
        """Read the log of a lane that another process writes, as far as it surely is on disk.

        The last frame may stand in the page cache only, so the log is synced first: what is seen
        then is durable.
        """
        try:
            log = self._files.open(self._directory / "lanes" / name / LOG_NAME)
        except FileNotFoundError:
            return None
        try:
            self._files.sync_data(log)
            scan = scan_log(self._files, log, known=self._scans.get(name))
        finally:
            self._files.close(log)
        if scan is not None:
            self._scans[name] = scan
        return scan

    def revision(self) -> Revision:
        """Return all rows that are committed now, to be read or trained on."""
        lanes = tuple((lane.name, lane.rows) for lane in self.lanes() if lane.rows)
        return Revision(recording=self.uid, lanes=lanes)

    def cursor(self, producer: str) -> int:
        """Return the last committed sequence number of a producer; 0 when it has none."""
        return max((lane.cursors.get(producer, 0) for lane in self.lanes()), default=0)

    def open_lane(self, limits: LaneLimits | None = None) -> LaneWriter:
        """Start a new lane; producers go on where all lanes together end.

        Args:
            limits: what the recording may take; by default only a disk nearly full is refused.

        Raises:
            StoreOwned: this process does not own the store.
            Conflict: the last lane opened here still takes batches.
            StorageError: it could not be created.
        """
        if not self._is_owner:
            raise StoreOwned(
                f"recording {self.id!r} was opened by Store.attach, which only reads: append "
                "through the owner"
            )
        with self._lock:
            if self._writer is not None and self._writer.is_open:
                raise Conflict(
                    f"lane {self._writer.name!r} of recording {self.id!r} is open: append to it, "
                    "or close it first"
                )
            states = self.lanes()
            cursors: dict[str, int] = {}
            for state in states:
                for producer, sequence in state.cursors.items():
                    cursors[producer] = max(sequence, cursors.get(producer, 0))
            documents = DocumentTable(self._documents(states))
            rows = sum(state.rows for state in states)
            self._writer = self._new_lane(cursors, documents, limits or LaneLimits(), rows)
            return self._writer

    def _documents(self, states: Sequence[LaneState]) -> list[Document]:
        return [
            document
            for state in states
            if state.rows or state.is_retired
            for document in self._lane_files(state.name, state.rows).documents()
        ]

    def _new_lane(
        self,
        cursors: Mapping[str, int],
        documents: DocumentTable,
        limits: LaneLimits,
        rows_before: int,
    ) -> LaneWriter:
        names = lane_names(self._files, self._directory / "lanes")
        number = 1 + max((int(name.partition(".")[0]) for name in names), default=0)
        epoch = secrets.randbits(64)
        name = f"{number:08d}.{epoch:016x}"
        header = LaneHeader(
            recording=self.uid,
            lane=name,
            epoch=epoch,
            layouts=tuple(
                ShardLayout.for_site(site, self._shard_bytes) for site in self._spec.sites
            ),
            created_s=self._files.time_s(),
        )
        with storage_errors(f"no lane can be created for recording {self.id!r}"):
            return LaneWriter(
                files=self._files,
                directory=self._directory / "lanes" / name,
                spec=self._spec,
                header=header,
                cursors=cursors,
                documents=documents,
                limits=limits,
                rows_before=rows_before,
            )

    def _lane_files(self, name: str, rows: int) -> LaneFiles:
        return LaneFiles(self._files, self._directory / "lanes" / name, self._spec, rows)

    def reader(self, revision: Revision | None = None) -> RecordingReader:
        """Return a reader pinned to a revision; to all that is committed now by default.

        Raises:
            NotFound: the revision is of another recording, or names a lane that is gone.
            CorruptData: the revision holds more rows than a lane proves.
        """
        revision = revision or self.revision()
        self._check_revision(revision)
        lanes = [self._lane_files(name, rows) for name, rows in revision.lanes]
        retired = [self._lane_files(s.name, 0) for s in self.lanes() if s.is_retired]
        return RecordingReader(self._spec, revision, lanes, retired)

    def _check_revision(self, revision: Revision) -> None:
        if revision.recording != self.uid:
            raise NotFound(
                f"revision {revision.id} is of recording uid {revision.recording}, not of "
                f"{self.uid} ({self.id!r})"
            )
        committed = {lane.name: lane.rows for lane in self.lanes() if not lane.is_retired}
        for name, rows in revision.lanes:
            if name not in committed:
                raise NotFound(
                    f"revision {revision.id} names lane {name!r}, which is gone: take a new one"
                )
            if rows > committed[name]:
                raise CorruptData(
                    f"revision {revision.id} holds {rows} rows of lane {name!r}, which proves "
                    f"{committed[name]}: it was cut after a disk failure"
                )

    def statistics(self, site: str, revision: Revision | None = None) -> SiteStatistics:
        """Return the moments of a site over a revision; over all rows committed by default.

        Sealed lanes are measured once and kept; others are read through.

        Raises:
            NotFound: the recording has no such site.
        """
        index = self._spec.site_index(site)
        revision = revision or self.revision()
        self._check_revision(revision)
        states = {lane.name: lane for lane in self.lanes()}
        total = SiteStatistics.empty(self._spec.sites[index].width)
        for name, rows in revision.lanes:
            seal = states[name].seal
            whole = seal is not None and seal.rows == rows
            total = total.merge(self._lane_statistics(name, rows, index, keep=whole))
        return replace(total, revision=revision.id)

    def _lane_statistics(self, name: str, rows: int, site: int, *, keep: bool) -> SiteStatistics:
        directory = self._directory / "lanes" / name / f"{STATISTICS_NAME}-{site}"
        if keep:
            with contextlib.suppress(NotFound):
                return _read_statistics(self._files, directory)
        blocks = self._lane_files(name, rows).blocks(site, 16 * BLOCK_ROWS)
        found = measure(blocks, self._spec.sites[site].width)
        if keep and self._is_owner:
            _write_statistics(self._files, directory, found, rows)
        return found

    def derive(self) -> None:
        """Write columns, documents and statistics of the sealed lanes that lack them."""
        for lane in self.lanes():
            if lane.seal is None or not lane.rows or not self._is_owner:
                continue
            directory = self._directory / "lanes" / lane.name
            with storage_errors(f"columns of lane {lane.name!r} cannot be written"):
                derive_columns(self._files, directory, self._spec, lane.rows)
            for site in range(len(self._spec.sites)):
                self._lane_statistics(lane.name, lane.rows, site, keep=True)

    def retire(self, max_rows: int) -> int:
        """Remove the oldest sealed lanes until at most ``max_rows`` rows are left.

        Producers go on where they were, documents stay, and the numbers of the rows that are left
        begin at 0 again in new revisions. Revisions that name a retired lane cannot be read any
        more, but by readers that are already reading.

        Returns:
            How many rows were removed; the lane being written is never touched.

        Raises:
            StoreOwned: this process does not own the store.
        """
        if not self._is_owner:
            raise StoreOwned(f"recording {self.id!r} was attached, not opened: only its owner may")
        removed = 0
        with self._lock, storage_errors(f"lanes of recording {self.id!r} cannot be retired"):
            states = self.lanes()
            rows = sum(state.rows for state in states)
            for state in states:
                directory = self._directory / "lanes" / state.name
                if state.is_retired:
                    sweep_retired(self._files, directory)
                elif state.seal is not None and state.rows and rows - removed > max_rows:
                    self._seals[state.name] = retire_lane(
                        self._files, directory, self._spec, state.seal
                    )
                    removed += state.rows
        return removed

    def verify(self) -> list[Problem]:
        """Check every stored byte against its checksum; an empty list when all is well.

        Reads everything, past nothing but the page cache; raises nothing for damage it finds.
        """
        try:
            states = self.lanes()
            self.vocabulary()
        except StorageError as error:
            return [Problem(recording=self.id, lane="", message=str(error))]
        return [
            Problem(recording=self.id, lane=state.name, message=message)
            for state in states
            for message in LaneVerifier(
                self._files,
                self._directory / "lanes" / state.name,
                self._spec,
                state.seal,
                state.rows,
            ).problems()
        ]

    def drop_litter(self) -> int:
        """Remove what crashes left behind: half-written files, lanes that never began.

        Returns:
            How many files and directories were removed.

        Raises:
            StoreOwned: this process does not own the store.
        """
        if not self._is_owner:
            raise StoreOwned(f"recording {self.id!r} was attached, not opened: only its owner may")
        with self._lock, storage_errors(f"litter of recording {self.id!r} cannot be removed"):
            known = {state.name for state in self.lanes()}
            litter = [
                self._directory / n for n in self._files.names(self._directory) if n[0] == "."
            ]
            for name in lane_names(self._files, self._directory / "lanes"):
                lane = self._directory / "lanes" / name
                if name not in known and not is_being_born(self._files, lane):
                    litter.append(lane)
                elif name in self._seals:
                    litter += [lane / n for n in self._files.names(lane) if n[0] == "."]
            for path in litter:
                if self._files.is_directory(path):
                    remove_tree(self._files, path)
                else:
                    self._files.remove(path)
            return len(litter)

    @property
    def is_writing(self) -> bool:
        """Whether a lane opened here takes batches."""
        return self._writer is not None and self._writer.is_open

    def compress(self) -> int:
        """Compress the rows of all sealed lanes, lossless, about 1.4 times smaller on real rows.

        Reading them stays exact and becomes slower; pinned readers may go on meanwhile.

        Returns:
            How many sites of lanes were compressed.

        Raises:
            StoreOwned: this process does not own the store.
            CorruptData: rows do not match the checksums of their commits; nothing was removed.
        """
        if not self._is_owner:
            raise StoreOwned(f"recording {self.id!r} was attached, not opened: only its owner may")
        done = 0
        for state in self.lanes():
            if state.seal is None or not state.rows:
                continue
            directory = self._directory / "lanes" / state.name
            lane = self._lane_files(state.name, state.rows)
            with storage_errors(f"lane {state.name!r} cannot be compressed"):
                for site in range(len(self._spec.sites)):
                    if not lane.is_compressed(site):
                        check_ranges(self._files, directory, state.rows, site)
                    done += compress_site(lane, self._files, directory, site)
        return done

    def close(self) -> None:
        """Close the lane that is open here, if any."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()


def create_recording_files(
    files: FileSystem,
    directory: Path,
    spec: RecordingSpec,
    vocabulary: Sequence[str],
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Lay out a recording that has no lane yet; durable when this returns."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "spec": spec.to_dict(),
        "shard_bytes": shard_bytes,
    }
    with storage_errors(f"recording {spec.recording!r} cannot be created"):
        files.make_directory(directory)
        files.make_directory(directory / "lanes")
        group = GroupWriter(files, directory / "vocabulary")
        write_strings(group, "token", [t.encode("utf-8", "surrogatepass") for t in vocabulary])
        group.finish({"tokens": len(vocabulary)})
        write_new(files, directory / "recording.json", [signed_json.encode(document)])
        files.sync_directory(directory)
        files.sync_directory(directory.parent)


def _read_description(files: FileSystem, directory: Path) -> tuple[RecordingSpec, int]:
    try:
        with storage_errors(f"recording at {directory} cannot be read"):
            content = read_file(files, directory / "recording.json")
    except FileNotFoundError as error:
        raise NotFound(f"recording at {directory} is gone") from error
    document = signed_json.decode(content, f"{directory / 'recording.json'}")
    spec = RecordingSpec.from_dict(get_mapping(document, "spec"))
    return spec, get_count(document, "shard_bytes")


def _read_statistics(files: FileSystem, directory: Path) -> SiteStatistics:
    arrays, attributes = read_arrays(directory, files=files)
    return SiteStatistics(
        count=get_count(attributes, "count"),
        nonfinite=get_count(attributes, "nonfinite"),
        mean=np.asarray(arrays["mean"], np.float64),
        m2=np.asarray(arrays["m2"], np.float64),
        norm_mean=float(np.asarray(arrays["norms"], np.float64)[0]),
        norm_max=float(np.asarray(arrays["norms"], np.float64)[1]),
    )


def _write_statistics(
    files: FileSystem, directory: Path, statistics: SiteStatistics, rows: int
) -> None:
    write_arrays(
        directory,
        {
            "mean": statistics.mean,
            "m2": statistics.m2,
            "norms": np.array([statistics.norm_mean, statistics.norm_max]),
        },
        {"count": statistics.count, "nonfinite": statistics.nonfinite, "rows": rows},
        files=files,
    )
