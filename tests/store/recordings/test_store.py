import concurrent.futures
import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Literal

import pytest

from isogloss.errors import (
    CorruptData,
    InvalidInput,
    InvalidName,
    NotFound,
    UnsupportedVersion,
)
from isogloss.store import Store
from isogloss.store.disk import signed_json
from isogloss.store.testing import FaultyFiles, sample_batch, sample_spec

UID = "0" * 24


def test_a_directory_of_something_else_does_not_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InvalidInput, match=r"thesis\.txt"):
        Store.open(tmp_path)
    with pytest.raises(NotFound, match="no store"):
        Store.open(tmp_path / "none", create=False)
    with pytest.raises(NotFound, match="no store"):
        Store.attach(tmp_path / "none")


def test_a_store_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    manifest = tmp_path / "isogloss.json"
    manifest.write_text(json.dumps({"schema_version": 7}))
    for opening in (Store.open, Store.attach):
        with pytest.raises(UnsupportedVersion, match="schema version 7"):
            opening(tmp_path)
    manifest.write_text("{")
    with pytest.raises(CorruptData, match="cannot be read"):
        Store.open(tmp_path)
    manifest.write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(CorruptData, match="does not match its checksum"):
        Store.open(tmp_path)
    manifest.write_bytes(signed_json.encode({"schema_version": 1}))
    Store.open(tmp_path).close()


def test_artifacts_have_directories_that_no_name_can_leave(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        other = "1" * 24
        assert store.artifact("probe", UID) == tmp_path / "probes" / UID
        assert store.artifact("codes", UID, other) == tmp_path / "codes" / UID / other
        assert store.artifact("codes", UID, other).parent.is_dir()
        for uid in ("../x", "a", "", UID + "/..", "0" * 15):
            with pytest.raises(InvalidName, match="hexadecimal"):
                store.artifact("match", uid)
        with pytest.raises(InvalidInput, match="two for codes"):
            store.artifact("codes", UID)
        with pytest.raises(InvalidInput, match="two for codes"):
            store.artifact("nonsense", UID)


def test_a_recording_half_created_leaves_its_id_free(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        (tmp_path / "recordings" / UID).mkdir()
        assert store.recordings() == []
        store.create_recording(sample_spec(), [])
        assert [recording.id for recording in store.recordings()] == ["sample"]


@pytest.mark.parametrize("fencing", ["lock", "create"])
def test_a_pickled_reader_reads_its_revision_in_a_spawned_process(
    tmp_path: Path, fencing: Literal["lock", "create"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = sample_spec()
    with Store.open("here", fencing=fencing) as store:  # relative: another directory there
        recording = store.create_recording(spec, ["a"])
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", i) for i in range(1, 9)])
            reader = recording.reader()
            lane.append([sample_batch(spec, "p", 9)])
            monkeypatch.chdir("/")
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                for site in ("layer.1/out", "layer.2"):
                    there = pool.submit(reader.read, site, 0, reader.rows).result()
                    assert there.tobytes() == reader.read(site, 0, reader.rows).tobytes()
        assert recording.reader().rows > reader.rows
        again = pickle.loads(pickle.dumps(reader))
        assert (again.rows, again.revision) == (reader.rows, reader.revision)
        store.delete_recording("sample")
        with pytest.raises(NotFound, match="has no recording with uid"):
            pickle.loads(pickle.dumps(reader))


def test_a_reader_of_files_without_an_address_is_not_pickled(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", files=FaultyFiles()) as store:
        reader = store.create_recording(sample_spec(), ["a"]).reader()
        with pytest.raises(InvalidInput, match="cannot be pickled"):
            pickle.dumps(reader)
