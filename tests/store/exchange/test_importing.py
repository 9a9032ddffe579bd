"""Imports take rows as they are, believe no header unproven, and go on after a crash."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NonFiniteRows,
    NotFound,
    ShapeError,
    StorageFull,
)
from isogloss.store import (
    Document,
    ImportColumns,
    ImportSource,
    ModelInfo,
    NumpyRows,
    RawRows,
    Recording,
    RecordingSpec,
    SafetensorsRows,
    SiteSpec,
    Store,
    import_recording,
    open_source,
)
from isogloss.store.exchange.importing import ImportedRows
from isogloss.store.testing import FaultyFiles, sample_batch, sample_spec

SPEC = sample_spec()
ROWS = 30
PLAIN = RecordingSpec(
    recording="plain",
    model=ModelInfo(name="m"),
    tokenizer="t",
    corpus="c",
    sites=(SiteSpec(name="a", width=4, dtype="float32"), SiteSpec(name="b", width=3)),
    has_spans=False,
)
DOCUMENTS = [Document.from_text(f"document {i}") for i in range(6)]


def arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "a": random.standard_normal((rows, 4)).astype(np.float32),
        "b": random.standard_normal((rows, 3)).astype(ml_dtypes.bfloat16),
        "token_id": random.integers(0, 99, rows).astype(np.int64),
    }


def columns(found: dict[str, np.ndarray], **more: object) -> ImportColumns:
    given: dict[str, object] = {"rows_per_document": 5, "documents": DOCUMENTS, **more}
    return ImportColumns(token_id=found["token_id"], **given)  # type: ignore[arg-type]


def check_plain(recording: Recording, found: dict[str, np.ndarray]) -> None:
    reader = recording.reader()
    tokens = reader.tokens()
    assert reader.read("a", 0, reader.rows).tobytes() == found["a"].tobytes()
    assert reader.read("b", 0, reader.rows).tobytes() == found["b"].tobytes()
    assert tokens.token_id.tolist() == found["token_id"].tolist()
    assert tokens.position.tolist() == [i % 5 for i in range(len(found["a"]))]
    assert tokens.document.tolist() == [DOCUMENTS[i // 5].id for i in range(len(found["a"]))]
    assert list(reader.documents().values()) == DOCUMENTS


def test_arrays_become_a_recording(tmp_path: Path) -> None:
    found = arrays()
    sources = {"a": found["a"], "b": found["b"].view(np.uint16)}
    with Store.open(tmp_path) as store:
        for _ in range(2):
            check_plain(
                import_recording(store, PLAIN, ["x"], sources, columns=columns(found)), found
            )
        recording = store.recording("plain")
        assert len(recording.lanes()) == 1
        assert recording.statistics("a").count == ROWS
        assert store.verify() == []


def files_of(directory: Path, found: dict[str, np.ndarray], kind: str) -> dict[str, ImportSource]:
    if kind == "npy":
        np.save(directory / "a.npy", found["a"])
        np.save(directory / "b.npy", found["b"])
        return {"a": directory / "a.npy", "b": directory / "b.npy"}
    if kind == "npy of two parts":
        np.save(directory / "a0.npy", found["a"][:7])
        np.save(directory / "a1.npy", found["a"][7:])
        np.save(directory / "b.npy", found["b"].view(np.uint16))
        return {
            "a": [directory / "a0.npy", directory / "a1.npy"],
            "b": NumpyRows(directory / "b.npy"),
        }
    if kind == "safetensors":
        save_file({"a": found["a"], "b": found["b"].view(np.uint16)}, directory / "x.safetensors")
        return dict.fromkeys("ab", directory / "x.safetensors")
    if kind == "safetensors of two shards":
        for number, part in enumerate((slice(0, 11), slice(11, None))):
            save_file(
                {"x": found["a"][part], "y": found["b"].view(np.uint16)[part]},
                directory / f"{number}.safetensors",
            )
        paths = [directory / "0.safetensors", directory / "1.safetensors"]
        return {"a": SafetensorsRows(paths, "x"), "b": SafetensorsRows(paths, "y")}
    (directory / "a.bin").write_bytes(b"headhead" + found["a"].tobytes())
    found["b"].tofile(directory / "b.bin")
    return {
        "a": RawRows(directory / "a.bin", "float32", 4, offset=8),
        "b": RawRows(directory / "b.bin", "bfloat16", 3),
    }


@pytest.mark.parametrize(
    "kind", ["npy", "npy of two parts", "safetensors", "safetensors of two shards", "raw"]
)
def test_files_become_a_recording(tmp_path: Path, kind: str) -> None:
    found = arrays()
    sources = files_of(tmp_path, found, kind)
    with Store.open(tmp_path / "store") as store:
        recording = import_recording(
            store,
            PLAIN,
            [],
            sources,
            columns=columns(found),  # type: ignore[arg-type]
        )
        check_plain(recording, found)


def test_memory_maps_and_document_columns_are_taken(tmp_path: Path) -> None:
    found = arrays()
    found["a"].tofile(tmp_path / "a.bin")
    which = [0, 0, 0, 1, 1, 0, 0] + [2] * 23
    ids = np.array([DOCUMENTS[i].id for i in which], np.uint64)
    mapped = np.memmap(tmp_path / "a.bin", np.float32, "r", shape=(ROWS, 4))
    with Store.open(tmp_path / "store") as store:
        recording = import_recording(
            store,
            PLAIN,
            [],
            {"a": mapped, "b": found["b"]},
            columns=columns(found, document=ids, rows_per_document=None),
        )
        tokens = recording.reader().tokens()
        assert tokens.position.tolist() == [0, 1, 2, 0, 1, 0, 1, *range(23)]
        assert len(recording.reader().documents()) == 6


def test_an_import_is_told_from_another_by_the_rows_at_both_ends() -> None:
    """A later release must know an import that this one began: what is noted does not change."""
    rows = np.arange(400, dtype=np.float32).reshape(200, 2)
    spec = replace(PLAIN, sites=(SiteSpec(name="a", width=2, dtype="float32"),))
    token_id = np.zeros(200, np.uint32)
    given = ImportColumns(token_id=token_id, documents=DOCUMENTS[:1], rows_per_document=200)

    def noted(changed: int | None) -> object:
        values = rows.copy()
        if changed is not None:
            values[changed] = -1.0
        return ImportedRows(spec, {"a": values}, given).note("p")["sources"]

    assert noted(None) == {"a": "float32 f7ed149e", "column token_id": "uint32 30fcedc0"}
    is_told = [row for row in (0, 63, 64, 100, 135, 136, 199) if noted(row) != noted(None)]
    assert is_told == [0, 63, 136, 199], "64 rows at each end"


def test_positions_are_counted_over_the_bounds_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = arrays()
    ids = np.array([DOCUMENTS[i].id for i in [0] * 9 + [1] * 2 + [2] * 19], np.uint64)
    given = columns(found, document=ids, rows_per_document=None)
    rows = ImportedRows(PLAIN, {"a": found["a"], "b": found["b"]}, given)
    monkeypatch.setattr("isogloss.store.exchange.importing._LOOK_BACK_ROWS", 3)
    whole = rows._count_positions(0, ROWS).tolist()
    assert whole == [*range(9), 0, 1, *range(19)]
    for step in (1, 2, 4, 7):
        parts = [rows._count_positions(i, min(ROWS, i + step)) for i in range(0, ROWS, step)]
        assert np.concatenate(parts).tolist() == whole


def test_sources_that_do_not_fit_are_refused_and_nothing_is_created(tmp_path: Path) -> None:
    found = arrays()
    good = {"a": found["a"], "b": found["b"]}
    cases: list[tuple[Mapping[str, ImportSource], ImportColumns, str]] = [
        ({"a": found["a"]}, columns(found), "give one for each"),
        ({**good, "a": found["a"][:9]}, columns(found), "differ in rows"),
        ({**good, "a": found["a"][:, :2]}, columns(found), r"wanted float32 \['rows', 4\]"),
        ({**good, "a": found["a"].astype(np.float64)}, columns(found), "convert it"),
        ({**good, "a": found["a"].view(np.uint32)}, columns(found), "convert it"),
        (good, columns(found, rows_per_document=7), "are 5 documents; 6"),
        (good, columns(found, span=np.zeros((ROWS, 2), np.uint32)), "has_spans=False"),
        (good, columns(found, position=np.zeros((ROWS, 1), np.uint32)), "column position is"),
        ({**good, "a": [found["a"][:5], found["b"][5:]]}, columns(found), "parts of one source"),
    ]  # fmt: skip
    with Store.open(tmp_path) as store:
        for sources, given, match in cases:
            with pytest.raises(ShapeError, match=match):
                import_recording(store, PLAIN, [], sources, columns=given)
        for bad, match in ((np.full(ROWS, -1), "holds -1 to -1"), (np.ones(ROWS), "whole numbers")):
            with pytest.raises(ShapeError, match=match):
                import_recording(store, PLAIN, [], good, columns=columns({"token_id": bad}))
            store.delete_recording("plain")
        assert store.recordings() == []
        with pytest.raises(InvalidInput, match="name its dtype"):
            import_recording(
                store, PLAIN, [], {**good, "a": tmp_path / "x.bin"}, columns=columns(found)
            )
        with pytest.raises(NotFound, match="no file"):
            import_recording(
                store, PLAIN, [], {**good, "a": tmp_path / "x.npy"}, columns=columns(found)
            )
    for wrong in (
        {"rows_per_document": None},
        {"document": found["token_id"]},
        {"rows_per_document": 0},
    ):
        with pytest.raises(InvalidInput, match="rows_per_document"):
            columns(found, **wrong)
    (tmp_path / "x.bin").write_bytes(bytes(10))
    for arguments, match in (
        (("float32", 4), "no whole number of rows"),
        (("float7", 4), "not one of"),
        (("float32", 0), "must be positive"),
    ):
        with pytest.raises(InvalidInput, match=match):
            RawRows(tmp_path / "x.bin", *arguments)
    with pytest.raises(ShapeError, match="fewer than 9"):
        RawRows(tmp_path / "x.bin", "uint8", 2, rows=9)
    save_file({"a": found["a"]}, tmp_path / "x.safetensors")
    with pytest.raises(NotFound, match="it holds: a"):
        SafetensorsRows(tmp_path / "x.safetensors", "z")


def test_a_source_that_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    found = arrays()
    sources = {"a": found["a"], "b": found["b"]}
    with Store.open(tmp_path) as store:
        import_recording(store, PLAIN, [], sources, columns=columns(found))
        other = {**sources, "a": found["a"] + 1}
        with pytest.raises(Conflict, match="began with other sources"):
            import_recording(store, PLAIN, [], other, columns=columns(found))
        with pytest.raises(AlreadyExists, match="vocabulary"):
            import_recording(store, PLAIN, ["x"], sources, columns=columns(found))
        more = import_recording(
            store, PLAIN, [], other, columns=columns(found), producer="import-2"
        )
        assert more.reader().rows == 2 * ROWS
        store.delete_recording("plain")
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "import", 1)])
        batch = sample_batch(SPEC, "import", 1)
        given = ImportColumns(
            token_id=batch.token_id,
            documents=batch.documents,
            document=batch.document,
            span=batch.span,
        )
        with pytest.raises(Conflict, match="no import wrote"):
            import_recording(store, SPEC, [], batch.sites, columns=given)  # type: ignore[arg-type]


def test_rows_are_imported_at_their_training_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogloss.store.exchange.importing._MOST_ROWS", 4)
    monkeypatch.setattr("isogloss.store.exchange.importing._STEP_ROWS", 7)
    found = arrays()
    steps = np.repeat([0, 3, 9], [10, 11, 9])
    sources = {"a": found["a"], "b": found["b"]}
    rows = ImportedRows(PLAIN, sources, columns(found, step=steps))
    assert [rows.rows_after(n) for n in range(rows.batches + 1)] == [
        *(0, 4, 8, 10, 14, 18, 21, 25, 29, 30)
    ]
    assert [rows.batch("p", n).step for n in range(1, rows.batches + 1)] == [
        *(0, 0, 0, 3, 3, 3, 9, 9, 9)
    ]
    with Store.open(tmp_path) as store:
        for _ in range(2):
            recording = import_recording(
                store, PLAIN, [], sources, columns=columns(found, step=steps)
            )
            check_plain(recording, found)
            assert recording.reader().tokens().step.tolist() == steps.tolist()
        other = steps.copy()
        other[[9, 10, 20]] = [3, 0, 9]
        for changed in (other, np.full_like(steps, 3), None):
            with pytest.raises(Conflict, match="began with other"):
                import_recording(store, PLAIN, [], sources, columns=columns(found, step=changed))
    for wrong, match in (
        (steps - 1, "holds -1 to"),
        (steps / 2, "whole numbers"),
        (steps[1:], "29"),
    ):
        with pytest.raises(ShapeError, match=match):
            ImportedRows(PLAIN, sources, columns(found, step=wrong))


def test_rows_go_through_the_checks_of_every_batch(tmp_path: Path) -> None:
    found = arrays()
    found["a"][3, 1] = np.nan
    spec = RecordingSpec.from_dict({**PLAIN.to_dict(), "nonfinite": "reject"})
    with Store.open(tmp_path) as store:
        sources = {"a": found["a"], "b": found["b"]}
        with pytest.raises(NonFiniteRows, match="the first at 3"):
            import_recording(store, spec, [], sources, columns=columns(found))
        assert store.recording("plain").revision().rows == 0
        store.delete_recording("plain")
        ids = np.full(ROWS, 5, np.uint64)
        with pytest.raises(InvalidInput, match="which no batch described"):
            import_recording(
                store,
                PLAIN,
                [],
                sources,
                columns=columns(found, document=ids, rows_per_document=None),
            )


def test_a_full_disk_keeps_what_was_imported_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogloss.store.exchange.importing._MOST_ROWS", 3)
    found = arrays()
    sources = {"a": found["a"], "b": found["b"]}
    rows: list[int] = []
    for place in (30, 45, 60, 0):
        full = FaultyFiles(fail_at=place, error=28, operations=frozenset({"write"}))
        with Store.open(tmp_path, files=full) as store:
            try:
                recording = import_recording(store, PLAIN, [], sources, columns=columns(found))
                check_plain(recording, found)
            except StorageFull:
                full.fail_at = 0
                rows.append(store.recording("plain").revision().rows)
    assert rows == sorted(rows)
    assert 0 < rows[0] < ROWS
    assert rows[0] % 3 == 0


IMPORTER = """
import sys, numpy as np
import isogloss.store.exchange.importing as importing
from isogloss.store import Document, ImportColumns, RecordingSpec, Store, import_recording
importing._MOST_ROWS = 16
import json
spec = RecordingSpec.from_dict(json.loads(sys.argv[2]))
values = np.arange(8000 * 4, dtype=np.float32).reshape(8000, 4)
documents = [Document.from_text(f"d{i}") for i in range(80)]
with Store.open(sys.argv[1]) as store:
    print("begun", flush=True)
    columns = ImportColumns(token_id=np.arange(8000), documents=documents, rows_per_document=100)
    import_recording(store, spec, [], {"a": values}, columns=columns)
print("ended", flush=True)
"""


def test_an_import_killed_at_any_moment_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    site = SiteSpec(name="a", width=4, dtype="float32")
    spec = RecordingSpec.from_dict({**PLAIN.to_dict(), "sites": [site.to_dict()]})
    command = [sys.executable, "-c", IMPORTER, str(tmp_path), json.dumps(spec.to_dict())]
    random, killed = np.random.default_rng(0), 0
    for attempt in range(12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if attempt < 4:
            time.sleep(float(random.uniform(0.01, 0.08)))
            process.kill()
        output, _ = process.communicate()
        killed += process.returncode == -9
        if "ended" in output:
            break
    else:
        pytest.fail("the import never ended")
    assert killed >= 1
    with Store.open(tmp_path) as store:
        recording = store.recording("plain")
        values = recording.reader().read("a", 0, 8000)
        assert values.reshape(-1).tolist() == list(range(32_000))
        assert recording.cursor("import") == 500
        assert recording.reader().tokens().token_id.tolist() == list(range(8000))
        assert store.verify() == []


def test_batches_have_no_more_texts_than_a_server_takes_and_every_document_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isogloss.store.exchange.importing._TEXT_BYTES", 40)
    spec = RecordingSpec(
        recording="r",
        model=ModelInfo(name="m"),
        tokenizer="-",
        corpus="-",
        sites=(SiteSpec(name="s", width=4, dtype="float32"),),
        has_spans=False,
    )
    documents = [Document.from_text(f"{number:08}") for number in range(20)]
    of_rows = np.array([documents[row // 3].id for row in range(50)], np.uint64)
    columns = ImportColumns(token_id=np.zeros(50, int), documents=documents, document=of_rows)
    rows = ImportedRows(spec, {"s": np.ones((50, 4), np.float32)}, columns)
    batches = [rows.batch("p", number) for number in range(1, rows.batches + 1)]
    assert sum(batch.rows for batch in batches) == 50
    assert all(sum(len(d.text or "") for d in batch.documents) <= 40 for batch in batches)
    assert {d.id for batch in batches for d in batch.documents} == {d.id for d in documents}
    assert [d.id for d in batches[-1].documents[-3:]] == [d.id for d in documents[-3:]], "unused"
    many = [Document.from_text(f"{number:08}") for number in range(30)]
    columns = ImportColumns(token_id=np.zeros(50, int), documents=many, document=of_rows)
    rows = ImportedRows(spec, {"s": np.ones((50, 4), np.float32)}, columns)
    with pytest.raises(InvalidInput, match="13 documents with no rows"):
        rows.batch("p", rows.batches)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("what", ["a directory", "no regular file"])
def test_a_directory_or_a_pipe_of_a_files_name_is_refused_by_name(
    tmp_path: Path, suffix: str, what: str
) -> None:
    path = tmp_path / f"x{suffix}"
    if what == "a directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    for open_it in (
        lambda: open_source(path, "x"),
        lambda: RawRows(path, "float32", 4),
    ):
        with pytest.raises(InvalidInput, match=f"x{suffix} is {what}, wanted a file"):
            open_it()
