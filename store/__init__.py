"""Activation store: bytes on disk, commits, pinned readers. No torch; zarr only when needed."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.store.arrays import ArrayFile, read_arrays, write_arrays
    from isogloss.store.batches import BatchLimits, RowBatch, TokenColumns
    from isogloss.store.bfloat16 import register_bfloat16
    from isogloss.store.catalog import Catalog, CatalogEntry
    from isogloss.store.codes import CodesFile, CodesWriter, Csr
    from isogloss.store.documents import Document
    from isogloss.store.exporting import export_recording
    from isogloss.store.filesystem import FileSystem
    from isogloss.store.lanes import Commit, LaneWriter
    from isogloss.store.limits import LaneLimits
    from isogloss.store.ownership import StoreOwner, store_owner
    from isogloss.store.readers import RecordingReader, shared_documents
    from isogloss.store.recordings import LaneState, Recording
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
    "Csr": "codes",
    "Document": "documents",
    "FileSystem": "filesystem",
    "LaneLimits": "limits",
    "LaneState": "recordings",
    "LaneWriter": "lanes",
    "ModelInfo": "specs",
    "Problem": "verifying",
    "Recording": "recordings",
    "RecordingReader": "readers",
    "RecordingSpec": "specs",
    "Revision": "specs",
    "RowBatch": "batches",
    "ShuffleOrder": "shuffling",
    "ShuffledBatch": "shuffled_reading",
    "SiteSpec": "specs",
    "SiteStatistics": "statistics",
    "Store": "stores",
    "StoreOwner": "ownership",
    "TokenColumns": "batches",
    "check_id": "specs",
    "export_recording": "exporting",
    "read_arrays": "arrays",
    "register_bfloat16": "bfloat16",
    "shared_documents": "readers",
    "store_owner": "ownership",
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
    "Csr",
    "Document",
    "FileSystem",
    "LaneLimits",
    "LaneState",
    "LaneWriter",
    "ModelInfo",
    "Problem",
    "Recording",
    "RecordingReader",
    "RecordingSpec",
    "Revision",
    "RowBatch",
    "ShuffleOrder",
    "ShuffledBatch",
    "SiteSpec",
    "SiteStatistics",
    "Store",
    "StoreOwner",
    "TokenColumns",
    "check_id",
    "export_recording",
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
