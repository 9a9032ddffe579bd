"""Reading one lane: rows by pread from its shards, columns and documents from files or log."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, NotFound
from isogloss.store.arrays import ArrayFile, GroupWriter, read_arrays
from isogloss.store.batches import TokenColumns
from isogloss.store.documents import KEY_BYTES, Document
from isogloss.store.filesystem import FileSystem, OpenFile, remove_tree
from isogloss.store.frames import CommitFrame, read_frames, read_payload_json
from isogloss.store.mapping import MappedRun
from isogloss.store.seals import LOG_NAME, LaneHeader, is_sound
from isogloss.store.shards import compressed_directory, shard_key, site_directory
from isogloss.store.specs import RecordingSpec, Rows

if TYPE_CHECKING:
    from isogloss.store.compressing import CompressedShard

COLUMNS_NAME = "columns"
DOCUMENTS_NAME = "documents"
_MAX_OPEN = 128


class LaneFiles:
    """Reads the first ``rows`` rows of a lane; safe from several threads."""

    def __init__(self, files: FileSystem, directory: Path, spec: RecordingSpec, rows: int) -> None:
        self._files = files
        self._directory = directory
        self.spec = spec
        self.rows = rows
        self._header: LaneHeader | None = None
        self._open: OrderedDict[tuple[int, int], OpenFile | CompressedShard] = OrderedDict()
        self._lock = threading.Lock()
        self._from_log: tuple[TokenColumns, list[Document]] | None = None
        self._arrays: dict[str, ArrayFile] | None = None

    @property
    def name(self) -> str:
        """Name of the lane."""
        return self._directory.name

    def can_map(self, site: int) -> bool:
        """Whether the shards of a site can be mapped into memory."""
        return self._files.can_map and not self.is_compressed(site)

    @property
    def header(self) -> LaneHeader:
        """Frame 0 of the lane."""
        if self._header is None:
            self._header = read_header(self._files, self._directory)
        return self._header

    def read_into(self, site: int, row: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (uint8 ``[rows, row_bytes]``) with the rows of a site from ``row`` on.

        Raises:
            CorruptData: a shard is missing or too short.
        """
        layout = self.header.layouts[site]
        done = 0
        while done < len(out):
            shard, offset = layout.row_offset(row + done)
            within = (row + done) % layout.shard_rows
            take = min(len(out) - done, layout.shard_rows - within)
            file = self._shard(site, shard)
            part = out[done : done + take]
            if isinstance(file, OpenFile):
                self._files.read_into(file.descriptor, part.reshape(-1), offset)
            else:
                file.read_into(within, part)
            done += take

    def is_compressed(self, site: int) -> bool:
        """Whether the rows of a site were compressed."""
        return self._files.exists(self._directory / compressed_directory(site))

    def _open_shard(self, site: int, shard: int) -> "OpenFile | CompressedShard":
        if not self.is_compressed(site):
            try:
                return OpenFile(self._files, self._shard_path(site, shard))
            except FileNotFoundError:
                if not self.is_compressed(site):  # else they were compressed this very moment
                    raise
        # numcodecs takes 0.1 s to import: only where something is compressed
        from isogloss.store.compressing import (
            CompressedShard,
            compressed_layout,
        )

        path = self._directory / compressed_directory(site) / shard_key(shard)
        layout = compressed_layout(self.header.layouts[site])
        item_bytes = self.spec.sites[site].numpy_dtype.itemsize
        return CompressedShard(self._files, path, layout, item_bytes)

    def _shard(self, site: int, shard: int) -> "OpenFile | CompressedShard":
        key = (site, shard)
        with self._lock:
            file = self._open.get(key)
            if file is None:
                try:
                    file = self._open_shard(site, shard)
                except FileNotFoundError as error:
                    raise CorruptData(
                        f"shard {shard} of site {self.spec.sites[site].name!r} is missing from "
                        f"lane {self.name!r}: run verify"
                    ) from error
                self._open[key] = file
                if len(self._open) > _MAX_OPEN:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(key)
            return file

    def map_runs(self, site: int) -> list[MappedRun]:
        """Return the shards of a site, open, for :func:`map_rows`."""
        layout = self.header.layouts[site]
        runs: list[MappedRun] = []
        for shard in range(-(-self.rows // layout.shard_rows)):
            rows = min(layout.shard_rows, self.rows - shard * layout.shard_rows)
            file = OpenFile(self._files, self._shard_path(site, shard))
            length = rows * layout.row_bytes
            if self._files.size(file.descriptor) < layout.data_offset + length:
                raise CorruptData(f"shard {shard} of lane {self.name!r} is too short: run verify")
            runs.append(
                MappedRun(
                    file=file,
                    offset=layout.data_offset,
                    length=length,
                    room=layout.shard_rows * layout.row_bytes,
                )
            )
        return runs

    def _shard_path(self, site: int, shard: int) -> Path:
        return self._directory / site_directory(site) / shard_key(shard)

    def blocks(self, site: int, block_rows: int) -> Iterator[Rows]:
        """Yield all rows of a site in blocks."""
        spec = self.spec.sites[site]
        for start in range(0, self.rows, block_rows):
            count = min(block_rows, self.rows - start)
            flat = np.empty((count, spec.row_bytes), np.uint8)
            self.read_into(site, start, flat)
            yield flat.view(spec.numpy_dtype)

    def columns(self, start: int, stop: int) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``."""
        arrays = self._column_files()
        if arrays is None:
            return self._read_log()[0].slice(start, stop)
        return TokenColumns(
            token_id=arrays["token_id"].read(start, stop),
            document=arrays["document"].read(start, stop),
            position=arrays["position"].read(start, stop),
            span=arrays["span"].read(start, stop) if self.spec.has_spans else None,
        )

    def _column_files(self) -> dict[str, ArrayFile] | None:
        """Return the files of the columns once the lane's columns were derived."""
        if self._arrays is None:
            directory = self._directory / COLUMNS_NAME
            if not self._files.exists(directory):
                return None
            names = ["token_id", "document", "position"] + ["span"] * self.spec.has_spans
            arrays = {name: ArrayFile(self._files, directory / name) for name in names}
            short = [name for name, array in arrays.items() if array.rows < self.rows]
            if short:
                raise CorruptData(
                    f"columns {short} of lane {self.name!r} have fewer than {self.rows} rows"
                )
            self._arrays = arrays
        return self._arrays

    def documents(self) -> list[Document]:
        """Return the documents described in the lane, in the order they came."""
        directory = self._directory / DOCUMENTS_NAME
        if self._files.exists(directory):
            return read_documents(self._files, directory)
        return self._read_log()[1]

    def _read_log(self) -> tuple[TokenColumns, list[Document]]:
        with self._lock:
            if self._from_log is None:
                commits = list(read_commits(self._files, self._directory, self.rows))
                columns = TokenColumns.concatenate(
                    [commit.columns for commit in commits], self.spec.has_spans
                )
                _check_proven(self._directory, min(columns.rows, self.rows), self.rows)
                documents = [document for commit in commits for document in commit.documents]
                self._from_log = (columns, documents)
            return self._from_log


def compress_site(lane: LaneFiles, files: FileSystem, directory: Path, site: int) -> bool:
    """Compress the rows of one site of a sealed lane, then remove the raw ones.

    A crash leaves the raw rows, or the compressed ones beside some of the raw, which the next call
    removes.

    Returns:
        Whether there was anything to do.
    """
    from isogloss.store.compressing import SiteCompressor

    raw = directory / site_directory(site)
    if not lane.is_compressed(site):
        layout = lane.header.layouts[site]
        compressor = SiteCompressor(files, directory, site, lane.spec.sites[site], layout)
        for shard in range(-(-lane.rows // layout.shard_rows)):
            rows = min(layout.shard_rows, lane.rows - shard * layout.shard_rows)
            content = np.empty((rows, layout.row_bytes), np.uint8)
            lane.read_into(site, shard * layout.shard_rows, content)
            compressor.write(shard, content)
        compressor.finish(lane.rows)
    elif not files.exists(raw):
        return False
    remove_tree(files, raw)
    return True


def check_ranges(files: FileSystem, directory: Path, rows: int, site: int) -> None:
    """Check a site's raw rows against their commits; CorruptData when one does not match."""
    for commit in read_commits(files, directory, rows):
        for written in commit.ranges:
            if written.site == site and not is_sound(files, directory, written):
                raise CorruptData(
                    f"bytes [{written.offset}, {written.offset + written.length}) of shard "
                    f"{written.shard} of site {site} in lane {directory.name!r} do not match "
                    "their checksum: run verify"
                )


def read_header(files: FileSystem, directory: Path) -> LaneHeader:
    """Return frame 0 of a lane's log; CorruptData when it cannot be read."""
    try:
        log = files.open(directory / LOG_NAME)
    except FileNotFoundError as error:
        raise NotFound(f"no lane at {directory}: it was deleted") from error
    try:
        for frame in read_frames(files, log):
            return LaneHeader.from_dict(read_payload_json(frame.payload)[0])
    finally:
        files.close(log)
    raise CorruptData(f"the log of lane {directory.name!r} has no sound frame 0")


def read_commits(files: FileSystem, directory: Path, rows: int) -> Iterator[CommitFrame]:
    """Yield the commits of a lane until ``rows`` rows are covered, or the log ends."""
    try:
        log = files.open(directory / LOG_NAME)
    except FileNotFoundError as error:
        raise NotFound(f"no lane at {directory}: it was deleted") from error
    try:
        covered = 0
        for frame in read_frames(files, log):
            if frame.number == 0:
                continue
            if covered >= rows:
                return
            commit = CommitFrame.from_payload(frame.payload)
            covered += commit.rows
            yield commit
    finally:
        files.close(log)


def derive_columns(files: FileSystem, directory: Path, spec: RecordingSpec, rows: int) -> None:
    """Write the token columns and documents of a sealed lane as array files.

    Documents become durable first: where ``columns`` exists, both do.
    """
    if files.exists(directory / COLUMNS_NAME):
        return
    group = GroupWriter(files, directory / COLUMNS_NAME)
    documents: list[Document] = []
    try:
        names = ["token_id", "document", "position"] + ["span"] * spec.has_spans
        wide = {"document": np.uint64}
        writers = {
            name: group.array(
                name, np.dtype(wide.get(name, np.uint32)), (2,) if name == "span" else ()
            )
            for name in names
        }
        for commit in read_commits(files, directory, rows):
            writers["token_id"].append(commit.columns.token_id)
            writers["document"].append(commit.columns.document)
            writers["position"].append(commit.columns.position)
            if commit.columns.span is not None:
                writers["span"].append(commit.columns.span)
            documents.extend(commit.documents)
        _check_proven(directory, writers["token_id"].rows, rows)
        write_documents(files, directory / DOCUMENTS_NAME, documents)
        group.finish({"rows": rows})
    except BaseException:
        group.abandon()
        raise


def _check_proven(directory: Path, proven: int, rows: int) -> None:
    if proven != rows:
        raise CorruptData(
            f"the log of lane {directory.name!r} proves {proven} rows, wanted {rows}: run verify"
        )


def write_documents(files: FileSystem, directory: Path, documents: list[Document]) -> None:
    """Write documents as arrays: keys, and texts and groups as UTF-8 with their ends."""
    texts = [b"" if d.text is None else d.text.encode() for d in documents]
    groups = [d.group.encode("utf-8", "surrogatepass") for d in documents]
    group = GroupWriter(files, directory)
    try:
        keys = np.frombuffer(b"".join(d.key for d in documents), np.uint8)
        group.write("key", keys.reshape(-1, KEY_BYTES))
        group.write("has_text", np.array([d.text is not None for d in documents], np.bool_))
        write_strings(group, "text", texts)
        write_strings(group, "group", groups)
        group.finish({"documents": len(documents)})
    except BaseException:
        group.abandon()
        raise


def read_documents(files: FileSystem, directory: Path) -> list[Document]:
    """Return the documents of a directory, in order."""
    arrays, _ = read_arrays(directory, files=files)
    try:
        keys = arrays["key"].tobytes()
        texts, groups = read_strings(arrays, "text"), read_strings(arrays, "group")
        return [
            Document(
                key=keys[KEY_BYTES * i : KEY_BYTES * (i + 1)],
                text=text.decode() if has_text else None,
                group=group.decode("utf-8", "surrogatepass"),
            )
            for i, (text, group, has_text) in enumerate(
                zip(texts, groups, arrays["has_text"].tolist(), strict=True)
            )
        ]
    except (KeyError, ValueError) as error:
        raise CorruptData(f"documents of lane {directory.parent.name!r}: {error}") from error


def write_strings(group: GroupWriter, name: str, values: list[bytes]) -> None:
    """Write byte strings as one run of bytes and where each ends."""
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    group.write(f"{name}_bytes", np.frombuffer(b"".join(values), np.uint8))
    group.write(f"{name}_ends", ends)


def read_strings(arrays: dict[str, NDArray[np.generic]], name: str) -> list[bytes]:
    """Return what :func:`write_strings` wrote."""
    content = arrays[f"{name}_bytes"].tobytes()
    ends = [int(end) for end in arrays[f"{name}_ends"].tolist()]
    if ends != sorted(ends) or (ends[-1] if ends else 0) != len(content):
        raise CorruptData(f"ends of {name!r} do not fit its {len(content)} bytes")
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
