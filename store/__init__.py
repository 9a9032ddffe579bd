"""Activation store: bytes on disk, commits, pinned readers. No torch; zarr only when needed."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.store.arrays import ArrayFile, read_arrays, write_arrays
    from isogloss.store.batches import BatchLimits, RowBatch, TokenColumns
    from isogloss.store.bfloat16 import register_bfloat16
    from isogloss.store.catalog import Catalog, CatalogEntry
    from isogloss.store.codes import CodesFile, CodesWriter, Csr
    from isogloss.store.compacting import Compaction
    from isogloss.store.describing import LaneDescription, LaneSite, Tier, describe_lane
    from isogloss.store.direct_lanes import DirectLaneWriter, open_direct_lane
    from isogloss.store.direct_tickets import DirectLaneTicket
    from isogloss.store.documents import Document
    from isogloss.store.exporting import ExportSource, Form, export_recording, export_rows
    from isogloss.store.filesystem import FileSystem, make_directories
    from isogloss.store.homes import is_object_address, store_owner
    from isogloss.store.import_exports import open_export
    from isogloss.store.import_sources import (
        ImportSource,
        NumpyRows,
        RawRows,
        RowsSource,
        SafetensorsRows,
        open_source,
    )
    from isogloss.store.importing import (
        ImportColumns,
        ImportedRows,
        ImportPlan,
        import_recording,
    )
    from isogloss.store.lane_states import LaneState
    from isogloss.store.lanes import Commit, LaneWriter
    from isogloss.store.limits import LaneLimits
    from isogloss.store.ownership import StoreOwner
    from isogloss.store.quantising import QuantisationError
    from isogloss.store.readers import RecordingReader, shared_documents
    from isogloss.store.recordings import Recording
    from isogloss.store.shuffled_reading import ShuffledBatch
    from isogloss.store.shuffling import ShuffleOrder
    from isogloss.store.specs import ModelInfo, RecordingSpec, Revision, SiteSpec, check_id
    from isogloss.store.statistics import SiteStatistics
    from isogloss.store.stores import Store
    from isogloss.store.verifying import Problem

_HOMES = {
    "ArrayFile": "arrays",
    "BatchLimits": "batches",
    "Catalog": "catalog",
    "CatalogEntry": "catalog",
    "CodesFile": "codes",
    "CodesWriter": "codes",
    "Commit": "lanes",
    "Compaction": "compacting",
    "Csr": "codes",
    "DirectLaneTicket": "direct_tickets",
    "DirectLaneWriter": "direct_lanes",
    "Document": "documents",
    "ExportSource": "exporting",
    "FileSystem": "filesystem",
    "Form": "exporting",
    "ImportColumns": "importing",
    "ImportPlan": "importing",
    "ImportSource": "import_sources",
    "ImportedRows": "importing",
    "LaneDescription": "describing",
    "LaneLimits": "limits",
    "LaneSite": "describing",
    "LaneState": "lane_states",
    "LaneWriter": "lanes",
    "ModelInfo": "specs",
    "NumpyRows": "import_sources",
    "Problem": "verifying",
    "QuantisationError": "quantising",
    "RawRows": "import_sources",
    "Recording": "recordings",
    "RecordingReader": "readers",
    "RecordingSpec": "specs",
    "Revision": "specs",
    "RowBatch": "batches",
    "RowsSource": "import_sources",
    "SafetensorsRows": "import_sources",
    "ShuffleOrder": "shuffling",
    "ShuffledBatch": "shuffled_reading",
    "SiteSpec": "specs",
    "SiteStatistics": "statistics",
    "Store": "stores",
    "StoreOwner": "ownership",
    "Tier": "describing",
    "TokenColumns": "batches",
    "check_id": "specs",
    "describe_lane": "describing",
    "export_recording": "exporting",
    "export_rows": "exporting",
    "import_recording": "importing",
    "is_object_address": "homes",
    "make_directories": "filesystem",
    "open_direct_lane": "direct_lanes",
    "open_export": "import_exports",
    "open_source": "import_sources",
    "read_arrays": "arrays",
    "register_bfloat16": "bfloat16",
    "shared_documents": "readers",
    "store_owner": "homes",
    "write_arrays": "arrays",
}

__all__ = [
    "ArrayFile",
    "BatchLimits",
    "Catalog",
    "CatalogEntry",
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
    "Form",
    "ImportColumns",
    "ImportPlan",
    "ImportSource",
    "ImportedRows",
    "LaneDescription",
    "LaneLimits",
    "LaneSite",
    "LaneState",
    "LaneWriter",
    "ModelInfo",
    "NumpyRows",
    "Problem",
    "QuantisationError",
    "RawRows",
    "Recording",
    "RecordingReader",
    "RecordingSpec",
    "Revision",
    "RowBatch",
    "RowsSource",
    "SafetensorsRows",
    "ShuffleOrder",
    "ShuffledBatch",
    "SiteSpec",
    "SiteStatistics",
    "Store",
    "StoreOwner",
    "Tier",
    "TokenColumns",
    "check_id",
    "describe_lane",
    "export_recording",
    "export_rows",
    "import_recording",
    "is_object_address",
    "make_directories",
    "open_direct_lane",
    "open_export",
    "open_source",
    "read_arrays",
    "register_bfloat16",
    "shared_documents",
    "store_owner",
    "write_arrays",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(
            f"module 'isogloss.store' has no attribute {name!r}; public: {__all__}"
        )
    return getattr(import_module(f"isogloss.store.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
