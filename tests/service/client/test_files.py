"""Rows out of a store as files and into one from files, over both transports."""

import asyncio
import json
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.service.serving import append_samples

import isogloss
from isogloss import Client
from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    ShapeError,
    UnknownSite,
)
from isogloss.service.cli.import_plans import NamedFiles, plan_of_export, plan_of_files
from isogloss.service.client.files import ClientSource
from isogloss.store import (
    Document,
    Form,
    ImportColumns,
    ModelInfo,
    RecordingSpec,
    SiteSpec,
    open_export,
)
from isogloss.store.testing import sample_batch, sample_spec

VOCABULARY = [f"token-{i}" for i in range(1000)]
FORMS: tuple[Form, ...] = ("zarr", "safetensors", "numpy")
ROWS = 150_000


def fresh() -> str:
    return f"m-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def spec(client: Client) -> RecordingSpec:
    """A recording with rows."""
    made = sample_spec(fresh())
    client.create_recording(made, VOCABULARY)
    with client.appender(made.recording, "rank-0") as appender:
        append_samples(appender, made, 4)
        for sequence in (5, 6):
            appender.write(sample_batch(made, "rank-0", sequence, step=40 + sequence))
    return made


def assert_same(client: Client, a: str, b: str) -> None:
    """Compare all that two recordings hold."""
    for site in client.recording(a).spec.sites:
        np.testing.assert_array_equal(client.read(a, site.name), client.read(b, site.name))
    ours, theirs = client.tokens(a), client.tokens(b)
    for column in ("token_id", "document", "position", "span", "step"):
        np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column))
    assert client.documents(a) == client.documents(b)
    assert client.vocabulary(a) == client.vocabulary(b)


def long_spec() -> RecordingSpec:
    """A recording for several batches of an import."""
    return RecordingSpec(
        recording=fresh(),
        model=ModelInfo(name="made/up"),
        tokenizer="ids",
        corpus="made up",
        sites=(SiteSpec(name="s", width=2, dtype="float32"),),
        has_spans=False,
    )


def long_rows(seed: int = 0) -> tuple[np.ndarray, ImportColumns]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((ROWS, 2)).astype(np.float32)
    ids = rng.integers(0, 1000, ROWS).astype(np.uint32)
    each = ROWS // 10
    documents = [Document.from_token_ids(ids[i * each : (i + 1) * each]) for i in range(10)]
    return rows, ImportColumns(token_id=ids, documents=documents, rows_per_document=each)


@pytest.mark.parametrize("form", FORMS)
def test_an_export_read_back_is_the_recording(
    client: Client, spec: RecordingSpec, form: Form, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "out" / form
    client.export(
        spec.recording, target, form=form, on_rows=lambda done, of: seen.append((done, of))
    )
    rows = client.recording(spec.recording).rows
    assert seen[-1] == (2 * rows, 2 * rows)
    plan = plan_of_export(target, fresh())
    again = client.import_rows(plan.spec, plan.vocabulary, plan.sources, columns=plan.columns)
    assert again.rows == rows
    assert_same(client, spec.recording, again.id)


def test_an_export_takes_chosen_sites_of_a_pinned_revision(
    client: Client, spec: RecordingSpec, tmp_path: Path
) -> None:
    before = client.recording(spec.recording).revision
    with client.appender(spec.recording, "rank-1") as appender:
        append_samples(appender, spec, 2)
    target = tmp_path / "out"
    client.export(spec.recording, target, form="numpy", sites=["layer.2"], revision=before)
    plan = open_export(target)
    assert [site.name for site in plan.spec.sites] == ["layer.2"]
    wanted = client.read(spec.recording, "layer.2", revision=before)
    np.testing.assert_array_equal(np.load(target / "site-0.npy"), wanted)
    with pytest.raises(AlreadyExists, match="choose another place"):
        client.export(spec.recording, target)
    with pytest.raises(UnknownSite, match=r"layer\.2"):
        client.export(spec.recording, tmp_path / "other", sites=["layer.9"])
    assert not (tmp_path / "other").exists()


def test_an_export_that_is_broken_off_leaves_nothing(
    client: Client, spec: RecordingSpec, tmp_path: Path
) -> None:
    def stop(done: int, of: int) -> None:
        raise ZeroDivisionError(f"{done} of {of}")

    for form in FORMS:
        with pytest.raises(ZeroDivisionError):
            client.export(spec.recording, tmp_path / "out", form=form, on_rows=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_import_goes_on_where_it_ended_and_stores_no_row_twice(client: Client) -> None:
    made, (rows, columns) = long_spec(), long_rows()

    def stop(done: int, of: int) -> None:
        assert of == ROWS
        raise ZeroDivisionError(done)

    with pytest.raises(ZeroDivisionError):
        client.import_rows(made, VOCABULARY, {"s": rows}, columns=columns, on_rows=stop)
    assert client.recording(made.recording).rows <= 1 << 16
    seen: list[int] = []
    done = client.import_rows(
        made, VOCABULARY, {"s": rows}, columns=columns, on_rows=lambda at, _: seen.append(at)
    )
    assert done.rows == ROWS == seen[-1]
    np.testing.assert_array_equal(client.read(made.recording, "s"), rows)
    tokens = client.tokens(made.recording)
    np.testing.assert_array_equal(tokens.token_id, columns.token_id)
    np.testing.assert_array_equal(tokens.position, np.arange(ROWS) % (ROWS // 10))
    assert client.documents(made.recording) == {found.id: found for found in columns.documents}
    seen.clear()
    again = client.import_rows(
        made, VOCABULARY, {"s": rows}, columns=columns, on_rows=lambda at, _: seen.append(at)
    )
    assert (again, seen) == (done, [])


def test_an_import_is_not_gone_on_with_by_other_rows(client: Client) -> None:
    made, (rows, columns) = long_spec(), long_rows()
    client.import_rows(made, VOCABULARY, {"s": rows[:100]}, columns=_first(columns, 100))
    with pytest.raises(Conflict, match=r"'import' of recording .* began with other rows"):
        client.import_rows(made, VOCABULARY, {"s": rows}, columns=columns)
    done = client.import_rows(
        made, VOCABULARY, {"s": rows[:50]}, columns=_first(columns, 50), producer="more"
    )
    assert done.rows == 150
    with pytest.raises(AlreadyExists, match="corpus"):
        client.import_rows(
            replace(made, corpus="another"), VOCABULARY, {"s": rows}, columns=columns
        )
    with pytest.raises(ShapeError, match=r"wanted float32"):
        client.import_rows(long_spec(), VOCABULARY, {"s": rows[:, :1]}, columns=columns)
    with pytest.raises(InvalidInput, match="without '/'"):
        client.import_rows(made, VOCABULARY, {"s": rows}, columns=columns, producer="a/b")


def _first(columns: ImportColumns, count: int) -> ImportColumns:
    """The columns of the first rows, as one document."""
    ids = np.asarray(columns.token_id)[:count]
    return ImportColumns(
        token_id=ids, documents=[Document.from_token_ids(ids)], rows_per_document=count
    )


def test_the_asyncio_client_moves_rows_too_and_ends_when_cancelled(
    remote_client: Client, served_store: Path, tmp_path: Path
) -> None:
    made, (rows, columns) = long_spec(), long_rows()

    async def move() -> int:
        async with await isogloss.connect_async(served_store) as client:
            done = await client.import_rows(made, VOCABULARY, {"s": rows}, columns=columns)
            await client.export(made.recording, tmp_path / "out", form="numpy")
            begun, go_on = asyncio.Event(), threading.Event()
            loop = asyncio.get_running_loop()

            def hold(done: int, of: int) -> None:
                loop.call_soon_threadsafe(begun.set)
                go_on.wait(10)

            task = asyncio.create_task(
                client.export(made.recording, tmp_path / "cut", form="numpy", on_rows=hold)
            )
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            return done.rows

    assert asyncio.run(move()) == ROWS
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "site-0.npy"), rows)
    assert not (tmp_path / "cut").exists()
    assert remote_client.recording(made.recording).rows == ROWS


# What the command line names.


def files(directory: Path, **changes: object) -> NamedFiles:
    """Files of 60 rows at two sites, in three documents."""
    rng = np.random.default_rng(1)
    np.save(directory / "a.npy", rng.standard_normal((60, 4)).astype(np.float32))
    np.save(directory / "b.npy", rng.integers(0, 1 << 15, (60, 3)).astype(np.uint16))
    np.save(directory / "ids.npy", np.arange(60, dtype=np.int64))
    named = NamedFiles(
        recording="named",
        sites={"a": directory / "a.npy", "b": directory / "b.npy"},
        token_id=directory / "ids.npy",
        document=None,
        rows_per_document=20,
        documents=None,
        vocabulary=None,
        model="me",
        tokenizer="mine",
        corpus="made up",
    )
    return replace(named, **changes)  # pyright: ignore[reportArgumentType] - fields by name


def test_named_files_say_widths_and_dtypes_themselves(tmp_path: Path) -> None:
    plan = plan_of_files(files(tmp_path))
    found = [(site.name, site.width, site.dtype) for site in plan.spec.sites]
    assert found == [("a", 4, "float32"), ("b", 3, "bfloat16")]
    ids = np.arange(60)
    wanted = [Document.from_token_ids(ids[start : start + 20]) for start in (0, 20, 40)]
    assert list(plan.columns.documents) == wanted
    assert plan.vocabulary == ()
    (tmp_path / "words.json").write_text(json.dumps(["x", "y"]))
    key = Document.from_text("three").key.hex()
    lines = [{"text": "one", "group": "g"}, {"text": "two"}, {"key": key, "group": None}]
    (tmp_path / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    named = files(
        tmp_path, vocabulary=tmp_path / "words.json", documents=tmp_path / "documents.jsonl"
    )
    plan = plan_of_files(named)
    assert plan.vocabulary == ("x", "y")
    one, two, three = plan.columns.documents
    assert (one, two) == (Document.from_text("one", "g"), Document.from_text("two"))
    assert (three.key.hex(), three.text) == (key, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.zeros((60, 2, 2), np.float32), "convert it"),
        ("a.npy", np.zeros((60, 4)), "holds float64"),
        ("words.json", b"{}", "no JSON list"),
        ("words.json", b"[1]", "no JSON list"),
        ("words.json", b"[", "is no JSON"),
        ("words.json", b"\xff", "cannot be read"),
        ("documents.jsonl", b"5", "wanted a JSON object"),
        ("documents.jsonl", b'{"key": "zz"}', "neither a text nor a key"),
        ("documents.jsonl", b'{"text": "a", "group": 5}', "group 5"),
        ("documents.jsonl", None, "cannot be read"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_named(
    name: str, content: bytes | np.ndarray | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "words.json").write_text("[]")
    (tmp_path / "documents.jsonl").write_text("")
    named = files(
        tmp_path, vocabulary=tmp_path / "words.json", documents=tmp_path / "documents.jsonl"
    )
    if isinstance(content, np.ndarray):
        np.save(tmp_path / name, content)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    else:
        (tmp_path / name).unlink()
    with pytest.raises(InvalidInput, match=message):
        plan_of_files(named)


def test_a_byte_order_mark_is_no_part_of_a_file_of_json(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "words.json").write_bytes(mark + b'["a", "b"]')
    lines = [b'{"text": "one"}', b'{"text": "two"}', b'{"text": "three"}']
    (tmp_path / "documents.jsonl").write_bytes(mark + b"\n".join(lines))
    named = files(
        tmp_path, vocabulary=tmp_path / "words.json", documents=tmp_path / "documents.jsonl"
    )
    plan = plan_of_files(named)
    assert plan.vocabulary == ("a", "b")
    assert plan.columns.documents[0] == Document.from_text("one")


def test_rows_that_name_their_documents_need_to_know_them(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="give --documents"):
        plan_of_files(files(tmp_path, rows_per_document=None, document=tmp_path / "ids.npy"))


def test_whatever_size_is_taken_can_be_read_back(client: Client) -> None:
    count, text = 9, "y" * (8 << 20)
    spec = RecordingSpec(
        recording=fresh(),
        model=ModelInfo(name="m"),
        tokenizer="-",
        corpus="-",
        sites=(SiteSpec(name="s", width=4, dtype="float32"),),
        has_spans=False,
    )
    documents = [Document.from_text(f"{number}{text[1:]}", "g") for number in range(count)]
    columns = ImportColumns(token_id=np.zeros(count, int), documents=documents, rows_per_document=1)
    rows = {"s": np.ones((count, 4), np.float32)}
    client.import_rows(spec, ["zero"], rows, columns=columns)
    assert set(client.documents(spec.recording).values()) == set(documents)
    too_long = Document.from_text(f"{text}x", "g")
    with pytest.raises(InvalidInput, match="8388609 bytes, wanted at most 8388608: cut it"):
        client.import_rows(
            replace(spec, recording=fresh()),
            ["zero"],
            {"s": rows["s"][:1]},
            columns=ImportColumns(
                token_id=np.zeros(1, int), documents=[too_long], rows_per_document=1
            ),
        )


def test_recordings_with_long_descriptions_are_listed_and_longer_ones_refused(
    client: Client,
) -> None:
    made: list[str] = []
    for _ in range(6):
        spec = replace(sample_spec(fresh()), provenance={"notes": "z" * ((4 << 20) * 15 // 16)})
        client.create_recording(spec, ["zero"])
        made.append(spec.recording)
    assert set(made) <= {found.id for found in client.recordings()}
    for provenance, vocabulary in (({"notes": "z" * (4 << 20)}, ["a"]), ({}, ["z" * (4 << 20)])):
        spec = replace(sample_spec(fresh()), provenance=provenance)
        with pytest.raises(InvalidInput, match="wanted at most 4194304: keep what is longer"):
            client.create_recording(spec, vocabulary)
    for name in made:
        client.delete_recording(name, client.recording(name).etag)


def test_a_reader_of_the_stores_own_files_reads_what_the_client_reads(
    client: Client, spec: RecordingSpec, served_store: Path
) -> None:
    root = None if client.is_local else served_store
    if not client.is_local:
        with pytest.raises(InvalidInput, match="give root="):
            client.reader(spec.recording)
    reader = client.reader(spec.recording, root=root)
    revision = client.recording(spec.recording).revision
    assert reader.revision == revision
    with client.appender(spec.recording, "rank-0") as appender:
        append_samples(appender, spec, 9)
    for site in spec.sites:
        wanted = client.read(spec.recording, site.name, revision=revision)
        assert reader.read(site.name, 0, reader.rows).tobytes() == wanted.tobytes()
    assert client.reader(spec.recording, revision=revision, root=root).rows == reader.rows
    with pytest.raises(NotFound):
        client.reader("no-such", root=root)


def test_an_exporter_is_given_all_tokens_and_documents_of_the_revision_it_chose(
    client: Client, spec: RecordingSpec
) -> None:
    told: list[tuple[int, int]] = []
    info = client.recording(spec.recording)
    source = ClientSource(client, info, None, 1, lambda done, of: told.append((done, of)))
    with client.appender(spec.recording, "rank-0") as appender:
        append_samples(appender, spec, 9)
    wanted = client.tokens(spec.recording, revision=info.revision)
    assert len(wanted.token_id) == source.rows == info.rows
    np.testing.assert_array_equal(source.tokens().token_id, wanted.token_id)
    np.testing.assert_array_equal(source.tokens(3, 9).token_id, wanted.token_id[3:9])
    assert source.documents() == client.documents(spec.recording, revision=info.revision)
    for start in (0, 5):
        source.read(spec.sites[0].name, start, 5 if start == 0 else source.rows)
    assert told == [(5, info.rows), (info.rows, info.rows)]
