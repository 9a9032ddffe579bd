"""The format is what docs/store-format.md says, and stays what it was."""

import importlib.util
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isogloss.errors import UnsupportedVersion
from isogloss.store import (
    CodesFile,
    CodesWriter,
    Recording,
    Revision,
    Store,
    read_arrays,
    write_arrays,
)
from isogloss.store.disk import signed_json
from isogloss.store.schema.batch import as_bytes
from isogloss.store.testing import check_sample, sample_batch, sample_spec

HERE = Path(__file__).parent
FIXTURES = sorted((HERE / "fixtures").glob("store-*.tar.gz"))
SPEC = sample_spec()


def independent(file: str, name: str) -> Callable[[Path], tuple[Any, ...]]:
    spec = importlib.util.spec_from_file_location("independent", HERE / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def independent_reader() -> Callable[[Path], tuple[Any, ...]]:
    return independent("independent_reader.py", "read_recording")


def build(root: Path) -> None:
    """Write a store with all there is: lanes sealed, derived and cut short, arrays, codes."""
    with Store.open(root) as store:
        recording = store.create_recording(SPEC, ["a", "b", "\ud800"], shard_bytes=3 << 10)
        for first in (1, 5, 9):
            with recording.open_lane() as lane:
                for sequence in range(first, first + 4):
                    lane.append([sample_batch(SPEC, p, sequence) for p in ("p", "q")])
            if first == 1:
                recording.derive()
        seal = recording.directory / "lanes" / recording.lanes()[-1].name / "seal.json"
        arrays = {"x": np.arange(10.0), "y": np.arange(6, dtype=np.int32).reshape(2, 3)}
        write_arrays(store.artifact("probe", "0" * 24), arrays, {"who": "fixture"})
        with CodesWriter(store.artifact("codes", "0" * 24, "1" * 24), 7) as codes:
            codes.append(np.array([0, 2, 3]), np.array([1, 4, 4], np.int32), np.ones(3, np.float32))
            codes.finish({"who": "fixture"})
    seal.unlink()


def check(root: Path) -> None:
    directory = next((root / "recordings").iterdir())
    sites, columns, documents = independent_reader()(directory)
    with Store.open(root) as store:
        recording = store.recording("sample")
        reader = recording.reader()
        assert check_sample(reader, {}) == {"p": 12, "q": 12}
        assert recording.spec == SPEC
        assert recording.vocabulary() == ("a", "b", "\ud800")
        for name, values in sites.items():
            assert reader.read(name, 0, reader.rows).tobytes() == values.tobytes()
        ours = reader.tokens()
        for name, values in columns.items():
            assert getattr(ours, name).tobytes() == values.tobytes()
        assert documents == {key: found.text for key, found in reader.documents().items()}
        assert store.verify() == []
        for site in sites:
            assert recording.statistics(site).count == reader.rows
        arrays, attributes = read_arrays(store.artifact("probe", "0" * 24))
        assert arrays["y"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert attributes == {"who": "fixture"}
        codes = CodesFile(store.artifact("codes", "0" * 24, "1" * 24))
        assert codes.feature(4)[0].tolist() == [0, 1]
        assert codes.attributes == {"who": "fixture"}


def compact_and_crash(recording: Recording) -> None:
    """Join the lanes, and leave the old ones, as after a crash before they were removed."""
    lanes = recording.directory / "lanes"
    before = recording.directory / "before"
    shutil.copytree(lanes, before)
    recording.compact()
    for left in before.iterdir():
        shutil.move(left, lanes / left.name)
    before.rmdir()


def build_tiers(root: Path) -> None:
    """Write a store with joined lanes, old ones left beside them, and a lossy recording."""
    with Store.open(root) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
        for first in (1, 3, 5, 7):
            with recording.open_lane() as lane:
                for sequence in (first, first + 1):
                    lane.append([sample_batch(SPEC, p, sequence) for p in ("p", "q")])
            if first == 3:
                recording.compact()
        compact_and_crash(recording)
        lossy = store.create_recording(sample_spec("lossy"), ["a"], shard_bytes=3 << 10)
        with lossy.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2)])
        lossy.quantise(["layer.2"])
        lossy.compress()


def check_tiers(root: Path) -> None:
    with Store.open(root) as store:
        recording, lossy = store.recording("sample"), store.recording("lossy")
        sites, columns, documents = independent_reader()(recording.directory)
        reader = recording.reader()
        assert check_sample(reader, {}) == {"p": 8, "q": 8}
        for name, values in sites.items():
            assert reader.read(name, 0, reader.rows).tobytes() == values.tobytes()
        assert reader.tokens().position.tobytes() == columns["position"].tobytes()
        assert documents == {key: found.text for key, found in reader.documents().items()}
        (joined,) = recording.lanes()
        assert joined.seal is not None
        for part in joined.seal.parts:
            old = Revision(recording=recording.uid, lanes=((part.lane, part.rows),))
            rows = recording.reader(old).read("layer.2", 0, part.rows)
            stop = part.first_row + part.rows
            assert rows.tobytes() == reader.read("layer.2", part.first_row, stop).tobytes()
        assert len(joined.seal.parts) == 5
        lane = lossy.directory / "lanes" / lossy.lanes()[0].name
        read_quantised = independent("independent_quantised.py", "read_quantised")
        values, note = read_quantised(lane / "quantised-1")
        again = lossy.reader()
        assert again.read("layer.2", 0, again.rows).tobytes() == values.tobytes()
        exact = [sample_batch(SPEC, "p", i).sites["layer.1/out"] for i in (1, 2)]
        assert again.read("layer.1/out", 0, again.rows).tobytes() == np.concatenate(exact).tobytes()
        was = np.concatenate([sample_batch(SPEC, "p", i).sites["layer.2"] for i in (1, 2)])
        assert note["max_abs"] == np.abs(values.astype(float) - was).max()
        assert lossy.quantisation()["layer.2"].max_abs == note["max_abs"]
        assert store.verify() == []
        assert store.collect_garbage() == 3
        assert check_sample(recording.reader(), {}) == {"p": 8, "q": 8}


def build_fenced(root: Path) -> None:
    """Write a store without locks: lanes joined twice, one moved to shards, others not."""

    def append(recording: Recording, first: int) -> None:
        with recording.open_lane() as lane:
            for sequence in (first, first + 1):
                lane.append([sample_batch(SPEC, "p", sequence)])

    with Store.open(root, fencing="create") as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
        for first in (1, 3):
            append(recording, first)
        recording.compact()
        append(recording, 5)
        recording.derive()
        compact_and_crash(recording)
        append(recording, 7)
        recording.derive()
        append(recording, 9)
        lane = recording.open_lane()
        lane.append([sample_batch(SPEC, "p", 11)])
        shutil.copytree(root, root.parent / "living")
    shutil.rmtree(root)
    (root.parent / "living").rename(root)
    (beat,) = (root / "owners").glob("*.beat")  # of an owner that died on another machine
    said = json.loads(beat.read_text())
    beat.write_text(json.dumps({**said, "host": "other", "place": "other", "pid": 7, "started": 7}))


def check_fenced(root: Path) -> None:
    directory = next((root / "recordings").iterdir())
    sites, tokens = independent("independent_fenced.py", "read_fenced")(directory)
    with Store.open(root, force=True) as store:
        recording = store.recording("sample")
        reader = recording.reader()
        assert check_sample(reader, {}) == {"p": 11}
        for site, values in zip(SPEC.sites, sites, strict=True):
            assert reader.read(site.name, 0, reader.rows).tobytes() == values
        assert reader.tokens().token_id.tobytes() == tokens.tobytes()
        joined, *others = recording.lanes()
        assert joined.seal is not None
        assert (len(joined.seal.parts), len(others)) == (4, 3)
        assert store.verify() == []
        assert store.collect_garbage() > 0
        assert recording.compact().lanes == 4
        assert check_sample(recording.reader(), {}) == {"p": 11}
        assert check_sample(reader, {}) == {"p": 11}


STEPS = (0, 40, 40, 1 << 63)


def build_steps(root: Path) -> None:
    """Write a recording of a training: lanes retired, joined, derived, and cut short."""
    with Store.open(root) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
        for life in range(5):
            with recording.open_lane() as lane:
                for ahead, step in enumerate(STEPS, 1):
                    number = 4 * life + ahead
                    batches = [sample_batch(SPEC, "p", number, step=step)]
                    lane.append([*batches, sample_batch(SPEC, "q", number)])
            if life == 0:
                recording.retire(0)
            if life == 2:
                recording.compact()
            if life == 3:
                recording.derive()
        seal = recording.directory / "lanes" / recording.lanes()[-1].name / "seal.json"
    seal.unlink()


def check_steps(root: Path) -> None:
    directory = next((root / "recordings").iterdir())
    retired = [
        seal for seal in directory.glob("lanes/*/seal.json") if b"retired" in seal.read_bytes()
    ]
    with Store.open(root) as store:
        recording = store.recording("sample")
        reader = recording.reader()
        wanted = [
            sample_batch(SPEC, name, number, step=STEPS[(number - 1) % 4] if name == "p" else 0)
            for number in range(5, 21)
            for name in ("p", "q")
        ]
        tokens = reader.tokens()
        for column in ("token_id", "document", "position", "span", "step"):
            parts = [getattr(batch.columns, column) for batch in wanted]
            assert getattr(tokens, column).tobytes() == np.concatenate(parts).tobytes()
        assert len(retired) == 1
        assert [step.step for step in reader.steps()] == [0, 40, 1 << 63]
        assert [len(reader.known_documents(step)) for step in (0, 40, 1 << 63)] == [25, 10, 5]
        assert store.verify() == []
    with tempfile.TemporaryDirectory() as left:
        shutil.copytree(directory, Path(left) / "r")
        shutil.rmtree(Path(left) / "r" / "lanes" / retired[0].parent.name)
        sites, columns, _ = independent_reader()(Path(left) / "r")
    for name, values in columns.items():
        assert getattr(tokens, name).tobytes() == values.tobytes()
    for name, values in sites.items():
        assert np.concatenate([b.sites[name] for b in wanted]).tobytes() == values.tobytes()


def test_a_recording_of_a_training_is_read_from_its_description(tmp_path: Path) -> None:
    build_steps(tmp_path / "store")
    check_steps(tmp_path / "store")


def test_a_store_without_locks_is_read_from_its_description(tmp_path: Path) -> None:
    build_fenced(tmp_path / "store")
    check_fenced(tmp_path / "store")


def test_joined_and_quantised_lanes_are_read_from_their_description(tmp_path: Path) -> None:
    build_tiers(tmp_path / "store")
    check_tiers(tmp_path / "store")


def test_an_independent_reader_reads_what_the_store_wrote(tmp_path: Path) -> None:
    build(tmp_path / "store")
    check(tmp_path / "store")


def test_the_newest_commit_of_a_living_lane_counts_only_with_its_rows(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        recording = store.create_recording(SPEC, [])
        lane = recording.open_lane()
        for sequence in (1, 2, 3):
            lane.append([sample_batch(SPEC, "p", sequence)])
        rows = lane.rows
        sites, columns, _ = independent_reader()(recording.directory)
        assert {len(values) for values in (*sites.values(), columns["token_id"])} == {rows}
        last = sample_batch(SPEC, "p", 3)
        path = recording.directory / "lanes" / lane.name / "site-1" / "c" / "0" / "0"
        content = bytearray(path.read_bytes())
        at = content.rindex(as_bytes(last.sites[SPEC.sites[1].name]).tobytes())
        content[at] ^= 1
        path.write_bytes(content)
        sites, columns, _ = independent_reader()(recording.directory)
        found = {len(values) for values in (*sites.values(), columns["token_id"])}
        assert found == {rows - last.rows}
        with Store.attach(tmp_path / "store") as reading:
            assert reading.recording("sample").revision().rows == rows - last.rows


def test_the_independent_reader_stays_small() -> None:
    lines = (HERE / "independent_reader.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 61


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_bytes_of_every_released_version_are_still_read(tmp_path: Path, fixture: Path) -> None:
    with tarfile.open(fixture) as archive:
        if hasattr(tarfile, "data_filter"):  # from 3.11.4 on
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)
    checks = {
        "store-1": check,
        "store-1-tiers": check_tiers,
        "store-1-fenced": check_fenced,
        "store-1-steps": check_steps,
    }
    checks[fixture.name.partition(".")[0]](tmp_path / "store")


def test_there_is_a_fixture_of_this_version() -> None:
    names = [path.name.partition(".")[0] for path in FIXTURES]
    assert names == ["store-1-fenced", "store-1-steps", "store-1-tiers", "store-1"]


def test_a_later_version_of_any_part_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "store")
    lane = next((tmp_path / "store" / "recordings").glob("*/lanes/*/seal.json"))
    whole = lane.read_bytes()
    later = {**signed_json.decode(whole, "seal"), "schema_version": 2}
    lane.write_bytes(signed_json.encode(later))
    with (
        Store.open(tmp_path / "store") as store,
        pytest.raises(UnsupportedVersion, match="schema version 2"),
    ):
        store.recording("sample").revision()


def write_fixture(target: Path, work: Path, make: Callable[[Path], None] = build) -> None:
    """Keep the bytes of this version; run once per version, never again."""
    make(work / "store")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(work / "store", "store")
    target.write_bytes(buffer.getvalue())
