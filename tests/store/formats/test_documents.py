"""Documents and strings are stored as arrays and read back."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData
from isogloss.store import (
    Document,
    FileSystem,
    Recording,
    Store,
)
from isogloss.store.formats.documents import read_documents, write_documents
from isogloss.store.formats.zarr_arrays import GroupWriter, read_arrays
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Three lanes of small shards: sealed, sealed and derived, live."""
    with Store.open(tmp_path_factory.mktemp("readers")) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in (1, 21, 41):
            lane = recording.open_lane()
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(20)])
            if first == 1:
                lane.close()
                recording.derive()
            elif first == 21:
                lane.close()
        yield recording


def test_documents_without_text_are_read_back(tmp_path: Path) -> None:
    document = Document.from_token_ids([1, 2, 3], group="g")
    batch = sample_batch(SPEC, "p", 1)
    batch = dataclasses.replace(
        batch, documents=(document,), document=np.full(batch.rows, document.id, np.uint64)
    )
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([batch])
            assert recording.reader().documents() == {document.id: document}
        recording.derive()
        assert recording.reader().documents() == {document.id: document}


def test_arrays_that_are_no_documents_are_damage(tmp_path: Path) -> None:
    files, directory = FileSystem(), tmp_path / "lane" / "documents"
    write_documents(files, directory, [Document.from_text("one"), Document.from_text("two")])
    assert [document.text for document in read_documents(files, directory)] == ["one", "two"]
    group = GroupWriter(files, directory)
    for name, values in read_arrays(directory)[0].items():
        group.write(name, values[:1] if name == "has_text" else values)
    group.finish({"documents": 2})
    with pytest.raises(CorruptData, match="documents of lane 'lane'"):
        read_documents(files, directory)
