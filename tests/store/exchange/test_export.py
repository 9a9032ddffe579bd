"""Exports are read by what users have: zarr, safetensors, numpy, torch."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import torch
import zarr

from isogloss.errors import AlreadyExists, InvalidInput, StorageFull, UnknownSite
from isogloss.store import (
    ExportSource,
    Form,
    Recording,
    RecordingReader,
    SiteSpec,
    Store,
    export_recording,
    export_rows,
    register_bfloat16,
)
from isogloss.store.exchange.export import FORMS, check_form
from isogloss.store.testing import FaultyFiles, sample_batch, sample_spec

SPEC = sample_spec()
VOCABULARY = ("a", "b", "\ud800")


def make(store: Store) -> Recording:
    recording = store.create_recording(SPEC, VOCABULARY, shard_bytes=3 << 10)
    for first in (1, 5):
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(4)])
    return recording


def wanted(site: str, count: int = 8) -> bytes:
    rows = [sample_batch(SPEC, "p", i).sites[site] for i in range(1, count + 1)]
    return np.concatenate(rows).tobytes()


def documents_of(target: Path) -> list[str]:
    lines = (target / "documents.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_an_export_is_read_by_zarr_alone(tmp_path: Path) -> None:
    register_bfloat16()
    with Store.open(tmp_path / "store") as store:
        recording = make(store)
        reader = recording.reader()
        export_recording(recording, tmp_path / "export")
        columns, documents = reader.tokens(), reader.documents()
    group = zarr.open_group(str(tmp_path / "export"), mode="r")
    found = {name: np.asarray(array[...]) for name, array in group.arrays()}
    for index, site in enumerate(SPEC.sites):
        assert found[f"site-{index}"].tobytes() == wanted(site.name)
    np.testing.assert_array_equal(found["token_id"], columns.token_id)
    np.testing.assert_array_equal(found["span"], columns.span)
    assert found["documents_id"].tolist() == list(documents)
    text = found["text_bytes"].tobytes().decode()
    assert text == "".join(document.text or "" for document in documents.values())
    assert group.attrs["spec"] == SPEC.to_dict()


def test_an_export_is_mapped_by_numpy_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        recording = make(store)
        columns = recording.reader().tokens()
        export_recording(recording, tmp_path / "export", form="numpy")
    mapped = np.load(tmp_path / "export/site-0.npy", mmap_mode="r", allow_pickle=False)
    assert mapped.dtype == np.uint16
    assert mapped.view(ml_dtypes.bfloat16).tobytes() == wanted("layer.1/out")
    assert np.load(tmp_path / "export/site-1.npy", mmap_mode="r").tobytes() == wanted("layer.2")
    for name in ("token_id", "document", "position", "span"):
        column = np.load(tmp_path / f"export/{name}.npy")
        np.testing.assert_array_equal(column, getattr(columns, name))
    manifest = json.loads((tmp_path / "export/manifest.json").read_text())
    assert manifest["arrays"]["site-0.npy"]["dtype"] == "bfloat16"
    assert manifest["arrays"]["site-0.npy"]["stored_as"] == "uint16"
    assert manifest["spec"] == SPEC.to_dict()
    assert json.loads((tmp_path / "export/vocabulary.json").read_text()) == list(VOCABULARY)
    assert documents_of(tmp_path / "export")[0] == sample_batch(SPEC, "p", 1).documents[0].text


def test_an_export_is_read_by_safetensors_in_numpy_and_torch(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        reader = make(store).reader()
        columns, rows = reader.tokens(), reader.rows
        target = tmp_path / "export"
        export_rows(reader, target, form="safetensors", shard_bytes=4000)
    index = json.loads((target / "recording.safetensors.index.json").read_text())
    names = [shard["file"] for shard in index["shards"]]
    assert len(names) > 1
    assert index["weight_map"]["layer.2"] == names
    assert sum(shard["rows"] for shard in index["shards"]) == rows
    sizes = [(target / name).stat().st_size for name in names]
    assert max(sizes) < 4000 + 1000
    found: dict[str, list[torch.Tensor]] = {}
    for name in names:
        with safetensors.safe_open(target / name, "pt") as file:
            for tensor in file.keys():  # noqa: SIM118 - no mapping
                found.setdefault(tensor, []).append(file.get_tensor(tensor))
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    assert joined["layer.1/out"].dtype == torch.bfloat16
    assert joined["layer.1/out"].view(torch.int16).numpy().tobytes() == wanted("layer.1/out")
    assert joined["layer.2"].numpy().tobytes() == wanted("layer.2")
    for name in ("token_id", "document", "position", "span"):
        np.testing.assert_array_equal(joined[name].numpy(), getattr(columns, name))
    with safetensors.safe_open(target / names[0], "np") as file:
        assert (
            file.get_tensor("layer.2").tobytes()
            == wanted("layer.2")[: len(found["layer.2"][0]) * 24]
        )
        assert file.metadata()["first_row"] == "0"


@pytest.mark.parametrize("form", FORMS)
def test_an_export_of_some_sites_at_a_revision_holds_just_that(tmp_path: Path, form: Form) -> None:
    register_bfloat16()
    target = tmp_path / "new" / "export"
    with Store.open(tmp_path / "store") as store:
        recording = make(store)
        revision = recording.revision()
        first = type(revision)(recording=revision.recording, lanes=revision.lanes[:1])
        export_recording(recording, target, form=form, revision=first, sites=["layer.2"])
        with pytest.raises(UnknownSite, match=r"layer\.9"):
            export_recording(recording, tmp_path / "x", form=form, sites=["layer.9"])
    if form == "zarr":
        group = zarr.open_group(str(target), mode="r")
        values = np.asarray({name: array for name, array in group.arrays()}["site-0"][...])  # noqa: C416
        assert "site-1" not in dict(group.arrays())
    elif form == "numpy":
        values = np.load(target / "site-0.npy")
        assert not (target / "site-1.npy").exists()
    else:
        (path,) = target.glob("*.safetensors")
        with safetensors.safe_open(path, "np") as file:
            assert "layer.1/out" not in file.keys()  # noqa: SIM118 - no mapping
            values = file.get_tensor("layer.2")
    assert values.tobytes() == wanted("layer.2", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "store"]


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_leaves_nothing_half(tmp_path: Path, form: Form) -> None:
    with Store.open(tmp_path / "store") as store:
        recording = make(store)
        failed = 0
        for place in range(1, 60, 3):
            full = FaultyFiles(fail_at=place, error=28, operations=frozenset({"write"}))
            try:
                export_recording(recording, tmp_path / "export", form=form, files=full)
            except StorageFull:
                failed += 1
                assert [path.name for path in tmp_path.iterdir()] == ["store"]
            else:
                break
        assert failed > 2
        assert (tmp_path / "export").is_dir()


@pytest.mark.parametrize("form", FORMS)
def test_what_stands_at_the_target_is_never_touched(tmp_path: Path, form: Form) -> None:
    (tmp_path / "export").mkdir()
    with Store.open(tmp_path / "store") as store:
        recording = make(store)
        with pytest.raises(AlreadyExists, match="choose another place"):
            export_recording(recording, tmp_path / "export", form=form)
    assert list((tmp_path / "export").iterdir()) == []


def test_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    spec = sample_spec(sites=(SiteSpec(name="token_id", width=4),))
    with Store.open(tmp_path / "store") as store:
        recording = make(store)
        with pytest.raises(InvalidInput, match="'pickle', wanted one of"):
            check_form("pickle")
        with pytest.raises(InvalidInput, match="name some site"):
            export_recording(recording, tmp_path / "x", sites=[])
        store.delete_recording("sample")
        other = store.create_recording(spec, [])
        with pytest.raises(InvalidInput, match="named like token columns"):
            export_recording(other, tmp_path / "x", form="safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("form", FORMS)
def test_a_recording_without_rows_is_exported_too(tmp_path: Path, form: Form) -> None:
    with Store.open(tmp_path / "store") as store:
        recording = store.create_recording(SPEC, VOCABULARY)
        export_recording(recording, tmp_path / "export", form=form)
    assert (tmp_path / "export").is_dir()


def test_memory_stays_at_a_few_blocks(tmp_path: Path) -> None:
    """The exporter never asks for more rows at once than a block holds."""
    asked: list[int] = []

    class Watched:
        def __init__(self, reader: RecordingReader) -> None:
            self._reader = reader
            self.spec, self.revision, self.rows = reader.spec, reader.revision, reader.rows

        def read(self, site: str, start: int, stop: int) -> np.ndarray:
            asked.append((stop - start) * 4096 * 4)
            return self._reader.read(site, start, stop)

        def tokens(self, start: int = 0, stop: int | None = None) -> object:
            asked.append(((stop or 0) - start) * 24)
            return self._reader.tokens(start, stop)

        def documents(self) -> object:
            return self._reader.documents()

    site = SiteSpec(name="s", width=4096, dtype="float32")
    spec = sample_spec(sites=(site,))
    with Store.open(tmp_path / "store") as store:
        recording = store.create_recording(spec, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", 1, 1500)])
        source = Watched(recording.reader())
        assert isinstance(source, ExportSource)
        for form in FORMS:
            export_rows(source, tmp_path / form, form=form)
    assert max(asked) <= 16 << 20
    assert sum(n > 24 * 1500 for n in asked) >= 6
