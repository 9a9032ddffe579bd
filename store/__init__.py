"""Activation store: bytes on disk, commits, pinned readers. No torch; zarr only when needed."""

from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.store.direct.ticket import DirectLaneTicket
    from isogloss.store.direct.writer import DirectLaneWriter
    from isogloss.store.disk.filesystem import (
        FileSystem,
        create_if_missing,
        make_directories,
        write_file_durably,
    )
    from isogloss.store.disk.rooted_files import read_private_file
    from isogloss.store.exchange.arrow import ArrowBatch, arrow_batches
    from isogloss.store.exchange.export import ExportSource, Form, export_recording, export_rows
    from isogloss.store.exchange.exported import open_export
    from isogloss.store.exchange.foreign_codes import (
        CheckedCodes,
        CodesDigest,
        ForeignCodes,
        check_codes,
    )
    from isogloss.store.exchange.importing import (
        ImportColumns,
        ImportedRows,
        ImportPlan,
        import_recording,
    )
    from isogloss.store.exchange.parquet import write_parquet
    from isogloss.store.exchange.sources import (
        ImportSource,
        NumpyRows,
        RawRows,
        RowsSource,
        SafetensorsRows,
        open_source,
    )
    from isogloss.store.formats.codes import CodesFile, CodesWriter, Csr
    from isogloss.store.formats.mapped_arrays import MappedArray, map_arrays, write_mappable
    from isogloss.store.formats.zarr_arrays import ArrayFile, read_arrays, write_arrays
    from isogloss.store.formats.zarr_bfloat16 import register_bfloat16
    from isogloss.store.lanes.huge_rows import HugeRows
    from isogloss.store.lanes.limits import LaneLimits
    from isogloss.store.lanes.norm_spread import NormSpread
    from isogloss.store.lanes.state import LaneState
    from isogloss.store.lanes.statistics import SiteStatistics
    from isogloss.store.lanes.writer import Commit, LaneWriter
    from isogloss.store.ownership.catalog import Catalog, CatalogEntry
    from isogloss.store.ownership.location import is_object_address, store_owner
    from isogloss.store.ownership.lock import StoreOwner
    from isogloss.store.ownership.reserve import keep_reserve, spend_reserve
    from isogloss.store.ownership.sqlite_copy import can_write, open_sqlite_copy
    from isogloss.store.reading.ranges import RangeBatch
    from isogloss.store.reading.reader import RecordingReader, shared_documents
    from isogloss.store.reading.sampled import SampledBatch, SampledReading
    from isogloss.store.reading.sampling import Sampling, StratumColumn, StratumShares
    from isogloss.store.reading.shuffle_order import ShuffleOrder
    from isogloss.store.reading.shuffled import ShuffledBatch
    from isogloss.store.recordings.describe import LaneDescription, LaneSite, Tier, describe_lane
    from isogloss.store.recordings.manifest import MissingLane
    from isogloss.store.recordings.open_direct_lane import open_direct_lane
    from isogloss.store.recordings.recording import Recording
    from isogloss.store.recordings.store import Store, reopen_reader
    from isogloss.store.schema.batch import BatchLimits, RowBatch, TokenColumns
    from isogloss.store.schema.document import Document, check_document
    from isogloss.store.schema.names import check_id, readable_text
    from isogloss.store.schema.recording_spec import ModelInfo, RecordingSpec, SiteSpec
    from isogloss.store.schema.revision import Revision
    from isogloss.store.schema.steps import (
        StepInfo,
        check_step,
        check_steps,
        step_column,
        step_runs,
    )
    from isogloss.store.shards.quantised import QuantisationError
    from isogloss.store.upkeep.join import Compaction
    from isogloss.store.upkeep.verify import Problem

_MODULES = {
    "ArrayFile": "formats.zarr_arrays",
    "ArrowBatch": "exchange.arrow",
    "BatchLimits": "schema.batch",
    "Catalog": "ownership.catalog",
    "CatalogEntry": "ownership.catalog",
    "CheckedCodes": "exchange.foreign_codes",
    "CodesDigest": "exchange.foreign_codes",
    "CodesFile": "formats.codes",
    "CodesWriter": "formats.codes",
    "Commit": "lanes.writer",
    "Compaction": "upkeep.join",
    "Csr": "formats.codes",
    "DirectLaneTicket": "direct.ticket",
    "DirectLaneWriter": "direct.writer",
    "Document": "schema.document",
    "ExportSource": "exchange.export",
    "FileSystem": "disk.filesystem",
    "ForeignCodes": "exchange.foreign_codes",
    "Form": "exchange.export",
    "HugeRows": "lanes.huge_rows",
    "ImportColumns": "exchange.importing",
    "ImportPlan": "exchange.importing",
    "ImportSource": "exchange.sources",
    "ImportedRows": "exchange.importing",
    "LaneDescription": "recordings.describe",
    "LaneLimits": "lanes.limits",
    "LaneSite": "recordings.describe",
    "LaneState": "lanes.state",
    "LaneWriter": "lanes.writer",
    "MappedArray": "formats.mapped_arrays",
    "MissingLane": "recordings.manifest",
    "ModelInfo": "schema.recording_spec",
    "NormSpread": "lanes.norm_spread",
    "NumpyRows": "exchange.sources",
    "Problem": "upkeep.verify",
    "QuantisationError": "shards.quantised",
    "RangeBatch": "reading.ranges",
    "RawRows": "exchange.sources",
    "Recording": "recordings.recording",
    "RecordingReader": "reading.reader",
    "RecordingSpec": "schema.recording_spec",
    "Revision": "schema.revision",
    "RowBatch": "schema.batch",
    "RowsSource": "exchange.sources",
    "SafetensorsRows": "exchange.sources",
    "SampledBatch": "reading.sampled",
    "SampledReading": "reading.sampled",
    "Sampling": "reading.sampling",
    "ShuffleOrder": "reading.shuffle_order",
    "ShuffledBatch": "reading.shuffled",
    "SiteSpec": "schema.recording_spec",
    "SiteStatistics": "lanes.statistics",
    "StepInfo": "schema.steps",
    "Store": "recordings.store",
    "StoreOwner": "ownership.lock",
    "Tier": "recordings.describe",
    "StratumColumn": "reading.sampling",
    "StratumShares": "reading.sampling",
    "TokenColumns": "schema.batch",
    "arrow_batches": "exchange.arrow",
    "check_codes": "exchange.foreign_codes",
    "check_document": "schema.document",
    "check_id": "schema.names",
    "check_step": "schema.steps",
    "check_steps": "schema.steps",
    "can_write": "ownership.sqlite_copy",
    "create_if_missing": "disk.filesystem",
    "describe_lane": "recordings.describe",
    "export_recording": "exchange.export",
    "export_rows": "exchange.export",
    "import_recording": "exchange.importing",
    "make_directories": "disk.filesystem",
    "is_object_address": "ownership.location",
    "keep_reserve": "ownership.reserve",
    "map_arrays": "formats.mapped_arrays",
    "open_direct_lane": "recordings.open_direct_lane",
    "open_export": "exchange.exported",
    "open_source": "exchange.sources",
    "open_sqlite_copy": "ownership.sqlite_copy",
    "read_arrays": "formats.zarr_arrays",
    "read_private_file": "disk.rooted_files",
    "readable_text": "schema.names",
    "register_bfloat16": "formats.zarr_bfloat16",
    "reopen_reader": "recordings.store",
    "shared_documents": "reading.reader",
    "step_column": "schema.steps",
    "step_runs": "schema.steps",
    "spend_reserve": "ownership.reserve",
    "store_owner": "ownership.location",
    "write_arrays": "formats.zarr_arrays",
    "write_mappable": "formats.mapped_arrays",
    "write_file_durably": "disk.filesystem",
    "write_parquet": "exchange.parquet",
}

__all__ = [
    "ArrayFile",
    "ArrowBatch",
    "BatchLimits",
    "Catalog",
    "CatalogEntry",
    "CheckedCodes",
    "CodesDigest",
    "CodesFile",
    "CodesWriter",
    "Commit",
    "Compaction",
    "Csr",
    "DirectLaneTicket",
    "DirectLaneWriter",
    "Document",
    "ExportSource",
    "FileSystem",
    "ForeignCodes",
    "Form",
    "HugeRows",
    "ImportColumns",
    "ImportPlan",
    "ImportSource",
    "ImportedRows",
    "LaneDescription",
    "LaneLimits",
    "LaneSite",
    "LaneState",
    "LaneWriter",
    "MappedArray",
    "MissingLane",
    "ModelInfo",
    "NormSpread",
    "NumpyRows",
    "Problem",
    "QuantisationError",
    "RangeBatch",
    "RawRows",
    "Recording",
    "RecordingReader",
    "RecordingSpec",
    "Revision",
    "RowBatch",
    "RowsSource",
    "SafetensorsRows",
    "SampledBatch",
    "SampledReading",
    "Sampling",
    "ShuffleOrder",
    "ShuffledBatch",
    "SiteSpec",
    "SiteStatistics",
    "StepInfo",
    "Store",
    "StoreOwner",
    "StratumColumn",
    "StratumShares",
    "Tier",
    "TokenColumns",
    "arrow_batches",
    "can_write",
    "check_codes",
    "check_document",
    "check_id",
    "check_step",
    "check_steps",
    "create_if_missing",
    "describe_lane",
    "export_recording",
    "export_rows",
    "import_recording",
    "is_object_address",
    "keep_reserve",
    "make_directories",
    "map_arrays",
    "open_direct_lane",
    "open_export",
    "open_source",
    "open_sqlite_copy",
    "read_arrays",
    "read_private_file",
    "readable_text",
    "register_bfloat16",
    "reopen_reader",
    "shared_documents",
    "spend_reserve",
    "step_column",
    "step_runs",
    "store_owner",
    "write_arrays",
    "write_file_durably",
    "write_mappable",
    "write_parquet",
]


def __getattr__(name: str) -> object:
    location = _MODULES.get(name)
    if location is None:
        raise AttributeError(
            f"module 'isogloss.store' has no attribute {name!r}; public: {__all__}"
        )
    return load_name(f"isogloss.store.{location}", name)


def __dir__() -> list[str]:
    return sorted(__all__)
