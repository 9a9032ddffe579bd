"""Read a fenced lane from the files of its commits, and from its shards once it was moved."""

from bisect import bisect_right
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, NotFound
from isogloss.store.disk.filesystem import OpenFile
from isogloss.store.fenced.records import LaneRecords
from isogloss.store.fenced.scan import FencedScan
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.schema.batch import TokenColumns
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.schema.steps import StepRun, step_runs

_MAX_OPEN = 128
"""Files of rows that are kept open."""


class FencedLaneFiles(LaneFiles):
    """Reads the first ``rows`` rows of a fenced lane from the files of its commits.

    Once the lane's rows were moved to shards, they are read from there.
    """

    def __init__(
        self, records: LaneRecords, spec: RecordingSpec, rows: int, scan: FencedScan
    ) -> None:
        super().__init__(records.files, records.directory / "lanes" / records.name, spec, rows)
        self._records = records
        self._scan = scan
        self._starts = [note.first_row for note in scan.commits]
        self._groups: OrderedDict[tuple[int, int], OpenFile] = OrderedDict()

    @property
    def header(self) -> LaneHeader:
        """Birth of the lane."""
        return self._scan.header

    def can_map(self, site: int) -> bool:
        """Whether the rows can be mapped: never as long as each commit has its own file."""
        return False

    def is_compressed(self, site: int) -> bool:
        """Whether the rows of a site were compressed: not yet."""
        return False

    def is_quantised(self, site: int) -> bool:
        """Whether the rows of a site were rounded to 8 bits: not yet."""
        return False

    def _find_successor(self) -> LaneFiles | None:
        """Return the shards of the lane, once its rows were moved there."""
        if self._files.exists(self._records.moved):
            return LaneFiles(self._files, self._directory, self.spec, self.rows)
        if not self._files.exists(self._records.birth):
            raise NotFound(
                f"lane {self.name!r} is gone: recording {self.spec.recording!r} was deleted while "
                "it was read"
            )
        return None

    def _read_own(self, site: int, row: int, out: NDArray[np.uint8]) -> None:
        row_bytes = self.spec.sites[site].row_bytes
        done = 0
        while done < len(out):
            note = self._scan.commits[bisect_right(self._starts, row + done) - 1]
            within = row + done - note.first_row
            take = min(len(out) - done, note.rows - within)
            file = self._group(site, note.ranges[site].shard)
            part = out[done : done + take].reshape(-1)
            self._files.read_into(file.descriptor, part, within * row_bytes)
            done += take

    def _group(self, site: int, number: int) -> OpenFile:
        key = (site, number)
        with self._lock:
            file = self._groups.get(key)
            if file is None:
                try:
                    file = OpenFile(self._files, self._records.group(site, number))
                except FileNotFoundError as error:
                    raise CorruptData(
                        f"rows {site}.{number} of lane {self.name!r} are missing: run verify"
                    ) from error
                self._groups[key] = file
                if len(self._groups) > _MAX_OPEN:
                    self._groups.popitem(last=False)
            else:
                self._groups.move_to_end(key)
            return file

    def _own_columns(self, start: int, stop: int) -> TokenColumns:
        return self._read_log()[0].slice(start, stop)

    def _own_step_runs(self) -> list[StepRun]:
        return step_runs(self._own_columns(0, self.rows).step)

    def _own_documents(self) -> list[Document]:
        return self._read_log()[1]

    def _read_log(self) -> tuple[TokenColumns, list[Document]]:
        with self._lock:
            if self._from_log is None:
                commits = list(self._records.read(self.rows))
                columns = TokenColumns.concatenate(
                    [commit.columns for commit in commits], self.spec.has_spans
                )
                if columns.rows < self.rows:
                    raise CorruptData(
                        f"the commits of lane {self.name!r} prove {columns.rows} rows, wanted "
                        f"{self.rows}: run verify"
                    )
                documents = [document for commit in commits for document in commit.documents]
                self._from_log = (columns, documents)
            return self._from_log
