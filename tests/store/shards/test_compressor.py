"""Compressed shards are plain zarr, and smaller."""

from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from isogloss.store import SiteSpec, Store, register_bfloat16
from isogloss.store.testing import (
    sample_batch,
    sample_spec,
)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("rows", [5, 700])
def test_zarr_and_tensorstore_read_compressed_rows(tmp_path: Path, dtype: str, rows: int) -> None:
    register_bfloat16()
    site = SiteSpec.from_dict({"name": "s", "width": 48, "dtype": dtype})
    spec = sample_spec(sites=(site,))
    batch = sample_batch(spec, "p", 1, rows)
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [], shard_bytes=32 << 10)
        with recording.open_lane() as lane:
            lane.append([batch])
        recording.compress()
        path = str(recording.directory / "lanes" / lane.name / "compressed-0")
    wanted = batch.sites["s"]
    assert np.asarray(zarr.open_array(path, mode="r")[:]).tobytes() == wanted.tobytes()
    kvstore = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    assert tensorstore.open(kvstore).result().read().result().tobytes() == wanted.tobytes()


def test_compression_of_bfloat16_is_worth_it(tmp_path: Path) -> None:
    site = SiteSpec(name="s", width=384)
    spec = sample_spec(sites=(site,))
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", 1, 4096)])
        recording.compress()
        lane_directory = recording.directory / "lanes" / lane.name
        size = (lane_directory / "compressed-0/c/0/0").stat().st_size
        assert not (lane_directory / "site-0").exists()
    assert 4096 * site.row_bytes / size > 1.42
