from pathlib import Path

import numpy as np
import pytest
import zarr

from isogloss.errors import StorageFull
from isogloss.store import Store, export_recording, register_bfloat16
from isogloss.store.testing import FaultyFiles, sample_batch, sample_spec

SPEC = sample_spec()


def test_an_export_is_read_by_zarr_alone(tmp_path: Path) -> None:
    register_bfloat16()
    with Store.open(tmp_path / "store") as store:
        recording = store.create_recording(SPEC, [], shard_bytes=3 << 10)
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", i) for i in range(1, 9)])
        reader = recording.reader()
        export_recording(reader, tmp_path / "export")
        full = FaultyFiles(fail_at=5, error=28, operations=frozenset({"write"}))
        with pytest.raises(StorageFull, match="free space"):
            export_recording(reader, tmp_path / "other", files=full)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "store"]
        columns, documents = reader.tokens(), reader.documents()
    group = zarr.open_group(str(tmp_path / "export"), mode="r")
    found = {name: np.asarray(array[...]) for name, array in group.arrays()}
    for index, site in enumerate(SPEC.sites):
        rows = [sample_batch(SPEC, "p", i).sites[site.name] for i in range(1, 9)]
        assert found[f"site-{index}"].tobytes() == np.concatenate(rows).tobytes()
    np.testing.assert_array_equal(found["token_id"], columns.token_id)
    np.testing.assert_array_equal(found["span"], columns.span)
    assert found["documents_id"].tolist() == list(documents)
    text = found["text_bytes"].tobytes().decode()
    assert text == "".join(document.text or "" for document in documents.values())
    assert group.attrs["spec"] == SPEC.to_dict()
