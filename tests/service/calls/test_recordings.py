"""Calls about recordings, asked of handlers over a small store."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.calls.filled import SPEC, VOCABULARY, append, owner_of

from isogloss.errors import AlreadyExists, Conflict, InvalidInput, InvalidName, NotFound
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2 as types
from isogloss.service.calls import recordings as calls
from isogloss.service.calls.caller import BLOCK_BYTES, called_by
from isogloss.service.calls.recordings import RecordingHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.values.results import RecordingInfo
from isogloss.service.wire.convert import to_message
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.recordings import from_recording
from isogloss.store import Document, Recording, Store
from isogloss.store.testing import sample_batch, sample_spec

DOCS = "recordings/docs"
ROWS = sum(sample_batch(SPEC, "p", number).rows for number in range(1, 5))


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner_of(tmp_path_factory.mktemp("recordings") / "store") as owner:
        yield owner


@pytest.fixture(scope="module")
def handlers(owner: Owner) -> RecordingHandlers:
    return RecordingHandlers(owner)


def rows_of(answers: Iterator[Framed[pb.ReadResponse]]) -> tuple[list[tuple[int, int]], bytes]:
    """Return start and rows of each block, and all bytes."""
    found = list(answers)
    content = b"".join(bytes(piece) for block in found for piece in block.payload)
    return [(block.head.start, block.head.rows) for block in found], content


def test_a_recording_is_created_once_and_found_by_its_name(
    owner: Owner, handlers: RecordingHandlers
) -> None:
    message = to_message(sample_spec("made"), pb.Recording)
    message.name = "recordings/another"  # the id of the request counts
    request = pb.CreateRecordingRequest(
        recording_id="made", recording=message, vocabulary=["a", "b"], request_id="r1"
    )
    made = handlers.create_recording(request)
    assert from_recording(made).spec == sample_spec("made")
    assert handlers.create_recording(request) == made
    assert handlers.get_recording(pb.GetRecordingRequest(name="recordings/made")) == made
    vocabulary = handlers.get_vocabulary(pb.GetVocabularyRequest(name="recordings/made"))
    assert list(vocabulary.tokens) == ["a", "b"]
    request.vocabulary.append("c")
    with pytest.raises(InvalidInput, match="'r1' was used for a different request"):
        handlers.create_recording(request)
    request.request_id = ""
    with pytest.raises(AlreadyExists, match="made"):
        handlers.create_recording(request)
    request.recording_id = "Bad"
    with pytest.raises(InvalidName, match="Bad"):
        handlers.create_recording(request)
    owner.recordings.delete("made", made.etag)


def test_recordings_are_listed_by_id_in_pages(handlers: RecordingHandlers) -> None:
    first = handlers.list_recordings(pb.ListRecordingsRequest(page_size=2))
    assert [found.name for found in first.recordings] == [DOCS, "recordings/empty"]
    rest = handlers.list_recordings(
        pb.ListRecordingsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [found.name for found in rest.recordings] == ["recordings/third"]
    assert rest.next_page_token == ""
    assert [found.rows for found in (*first.recordings, *rest.recordings)] == [ROWS, 0, 0]
    assert len(handlers.list_recordings(pb.ListRecordingsRequest()).recordings) == 3


def test_deleting_asks_for_the_etag(owner: Owner, handlers: RecordingHandlers) -> None:
    owner.store.create_recording(sample_spec("gone"), [])
    name = "recordings/gone"
    with pytest.raises(InvalidInput, match="etag is empty: pass the etag of the recording"):
        handlers.delete_recording(pb.DeleteRecordingRequest(name=name))
    with pytest.raises(Conflict, match="has etag"):
        handlers.delete_recording(pb.DeleteRecordingRequest(name=name, etag="old"))
    etag = handlers.get_recording(pb.GetRecordingRequest(name=name)).etag
    handlers.delete_recording(pb.DeleteRecordingRequest(name=name, etag=etag))
    with pytest.raises(NotFound, match="gone"):
        handlers.get_recording(pb.GetRecordingRequest(name=name))


def test_a_read_without_bounds_gives_all_rows_of_a_site(
    owner: Owner, handlers: RecordingHandlers
) -> None:
    for site in SPEC.sites:
        wanted = owner.store.recording("docs").reader().read(site.name, 0, ROWS).tobytes()
        blocks, content = rows_of(handlers.read(pb.ReadRequest(name=DOCS, site=site.name)))
        assert blocks == [(0, ROWS)]
        assert content == wanted
        few, part = rows_of(
            handlers.read(pb.ReadRequest(name=DOCS, site=site.name, start=2, stop=5))
        )
        assert few == [(2, 3)]
        assert part == wanted[2 * site.row_bytes : 5 * site.row_bytes]
    (block,) = handlers.read(pb.ReadRequest(name=DOCS, site="layer.2", start=ROWS))
    assert (block.head.start, block.head.rows, block.head.width) == (ROWS, 0, 6)
    assert block.head.dtype == types.DTYPE_FLOAT32


def test_rows_come_in_blocks_of_whole_rows(handlers: RecordingHandlers) -> None:
    assert BLOCK_BYTES == 1 << 20
    wanted = rows_of(handlers.read(pb.ReadRequest(name=DOCS, site="layer.2")))[1]
    row_bytes = SPEC.sites[1].row_bytes
    for block_bytes, step in ((1, 1), (3 * row_bytes, 3), (4 * row_bytes - 1, 3)):
        with called_by("", block_bytes):
            blocks, content = rows_of(handlers.read(pb.ReadRequest(name=DOCS, site="layer.2")))
        assert blocks == [(at, min(step, ROWS - at)) for at in range(0, ROWS, step)]
        assert content == wanted


def test_blocks_follow_what_a_server_says_between_two_of_them(handlers: RecordingHandlers) -> None:
    row_bytes = SPEC.sites[1].row_bytes
    answers = handlers.read(pb.ReadRequest(name=DOCS, site="layer.2"))
    tokens = handlers.read_tokens(pb.ReadTokensRequest(name=DOCS))
    found: list[tuple[int, int]] = []
    for rows in (1, 2):
        with called_by("", rows * max(row_bytes, 24)):
            found.append((next(answers).head.rows, next(tokens).head.rows))
    assert found == [(1, 1), (2, 2)]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, ROWS + 1), (ROWS + 1, None)])
def test_a_range_beyond_the_rows_is_refused(
    handlers: RecordingHandlers, start: int, stop: int | None
) -> None:
    says = rf"rows \[{start}, {ROWS if stop is None else stop}\) are not a range within the {ROWS}"
    with pytest.raises(InvalidInput, match=says):
        next(handlers.read(pb.ReadRequest(name=DOCS, site="layer.2", start=start, stop=stop)))
    with pytest.raises(InvalidInput, match=says):
        next(handlers.read_tokens(pb.ReadTokensRequest(name=DOCS, start=start, stop=stop)))


def test_token_columns_come_in_blocks_with_their_spans(
    owner: Owner, handlers: RecordingHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = owner.store.recording("docs").reader().tokens(0, ROWS)
    assert wanted.span is not None
    for step, count in ((1 << 16, 1), (ROWS - 1, 2)):
        monkeypatch.setattr(calls, "_TOKEN_ROWS", step)
        found = [answer.head for answer in handlers.read_tokens(pb.ReadTokensRequest(name=DOCS))]
        assert len(found) == count
        assert [head.start for head in found] == list(range(0, ROWS, step))
        assert sum(head.rows for head in found) == ROWS
        assert all(head.has_spans for head in found)
        for field in ("token_id", "document", "position", "span"):
            column = b"".join(getattr(head, field) for head in found)
            assert column == getattr(wanted, field).tobytes()


def test_a_recording_without_spans_says_so(owner: Owner, handlers: RecordingHandlers) -> None:
    spec = sample_spec("plain", has_spans=False)
    made = owner.store.create_recording(spec, VOCABULARY)
    append(owner, spec, 1)
    (answer,) = handlers.read_tokens(pb.ReadTokensRequest(name="recordings/plain"))
    assert (answer.head.has_spans, answer.head.span) == (False, b"")
    owner.recordings.delete("plain", made.etag)


def test_documents_come_some_at_a_time_with_their_text_by_wish(
    owner: Owner, handlers: RecordingHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = list(owner.store.recording("docs").reader().documents().values())
    monkeypatch.setattr(calls, "_DOCUMENTS", 3)
    for with_text in (True, False):
        request = pb.ReadDocumentsRequest(name=DOCS, with_text=with_text)
        found = [list(answer.head.documents) for answer in handlers.read_documents(request)]
        assert [len(some) for some in found] == [3, 1]
        documents = [document for some in found for document in some]
        assert [d.key for d in documents] == [d.key for d in wanted]
        assert [d.text for d in documents] == [d.text if with_text else "" for d in wanted]


def test_steps_and_known_documents_come_some_at_a_time(
    owner: Owner, handlers: RecordingHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sample_spec("trained")
    made = owner.store.create_recording(spec, VOCABULARY)
    sent = [sample_batch(spec, "p", n, step=step) for n, step in enumerate((0, 2, 2, 2, 9), 1)]
    with made.open_lane() as lane:
        lane.append(sent)
    monkeypatch.setattr(calls, "_STEPS", 2)
    monkeypatch.setattr(calls, "_KNOWN_DOCUMENTS", 2)
    name = "recordings/trained"
    answers = [answer.head.steps for answer in handlers.read_steps(pb.ReadStepsRequest(name=name))]
    assert [[(s.step, s.documents) for s in some] for some in answers] == [
        [(0, 1), (2, 3)],
        [(9, 1)],
    ]
    request = pb.ReadKnownDocumentsRequest(name=name, step=2)
    heads = [answer.head for answer in handlers.read_known_documents(request)]
    assert [len(head.documents) for head in heads] == [2, 1]
    found = [key for head in heads for key in head.documents]
    assert found == sorted(batch.documents[0].id for batch in sent[1:4])
    by_id = {batch.documents[0].id: batch.rows for batch in sent}
    assert [rows for head in heads for rows in head.rows] == [by_id[key] for key in found]
    empty = pb.ReadKnownDocumentsRequest(name=name, step=3)
    assert list(handlers.read_known_documents(empty)) == []
    assert handlers.get_recording(pb.GetRecordingRequest(name=name)).has_steps
    owner.recordings.delete("trained", made.etag)


def test_a_pinned_revision_bounds_what_is_read_and_measured(tmp_path: Path) -> None:
    with owner_of(tmp_path / "store") as owner:
        _check_that_a_revision_bounds(owner, RecordingHandlers(owner))


def _check_that_a_revision_bounds(owner: Owner, handlers: RecordingHandlers) -> None:
    spec = sample_spec("third")
    append(owner, spec, 1)
    name = "recordings/third"
    before = handlers.get_recording(pb.GetRecordingRequest(name=name))
    append(owner, spec, 2, "q")
    now = handlers.get_recording(pb.GetRecordingRequest(name=name))
    assert now.rows > before.rows > 0
    for revision, rows in ((None, now.rows), (before.revision, before.rows)):
        blocks, _ = rows_of(
            handlers.read(pb.ReadRequest(name=name, site="layer.2", revision=revision))
        )
        assert blocks == [(0, rows)]
        (tokens,) = handlers.read_tokens(pb.ReadTokensRequest(name=name, revision=revision))
        assert tokens.head.rows == rows
        statistics = handlers.get_site_statistics(
            pb.GetSiteStatisticsRequest(name=name, site="layer.2", revision=revision)
        )
        assert statistics.count == rows
        documents = handlers.read_documents(pb.ReadDocumentsRequest(name=name, revision=revision))
        assert sum(len(d.head.documents) for d in documents) == (3 if revision is None else 1)
    before.revision.lanes[0].rows += 1_000
    with pytest.raises(InvalidInput, match="give a revision as the store gave it"):
        next(handlers.read(pb.ReadRequest(name=name, site="layer.2", revision=before.revision)))


def test_what_is_not_there_is_named(handlers: RecordingHandlers) -> None:
    with pytest.raises(NotFound, match="lost"):
        next(handlers.read(pb.ReadRequest(name="recordings/lost", site="layer.2")))
    with pytest.raises(NotFound, match=r"layer\.2"):
        next(handlers.read(pb.ReadRequest(name=DOCS, site="layer.9")))
    with pytest.raises(InvalidName, match="recordings/ID"):
        handlers.get_vocabulary(pb.GetVocabularyRequest(name="docs"))


def _unchecked(text: str, what: str) -> str:
    return text


def test_texts_that_utf8_cannot_hold_are_refused_or_if_there_already_made_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = os.fsdecode(b"caf\xe9.txt")
    batch = sample_batch(SPEC, "p", 1)
    grouped = tuple(Document.from_text(d.text or "", group) for d in batch.documents)
    with pytest.raises(InvalidInput, match="group of a document"):
        dataclasses.replace(batch, documents=grouped)
    with pytest.raises(InvalidInput, match="producer name"):
        dataclasses.replace(batch, producer=group)
    monkeypatch.setattr("isogloss.store.schema.document.check_text", _unchecked)
    before = dataclasses.replace(batch, documents=grouped)
    with Owner(Store.open(tmp_path / "store"), run_workers=False) as owner:
        vocabulary = ["plain", "\ud800odd"]
        owner.store.create_recording(SPEC, vocabulary)
        with owner.store.recording("docs").open_lane() as lane:
            lane.append([before])
        handlers = RecordingHandlers(owner)
        (answer,) = handlers.read_documents(pb.ReadDocumentsRequest(name=DOCS, with_text=True))
        assert {document.group for document in answer.head.documents} == {"caf\ufffd.txt"}
        assert len(answer.head.documents) == len(grouped)
        tokens = handlers.get_vocabulary(pb.GetVocabularyRequest(name=DOCS)).tokens
        assert tokens == ["plain", "\ufffdodd"]


def test_a_recording_that_is_deleted_while_all_are_listed_is_left_out(
    owner: Owner, handlers: RecordingHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.recordings.create(sample_spec("leaving"), ["a"], "")
    describe = owner.recordings.info

    def info(recording: Recording) -> RecordingInfo:
        if recording.id == "leaving":
            owner.recordings.delete("leaving", recording.etag)
        return describe(recording)

    monkeypatch.setattr(owner.recordings, "info", info)
    names = [
        found.name for found in handlers.list_recordings(pb.ListRecordingsRequest()).recordings
    ]
    assert DOCS in names
    assert "recordings/leaving" not in names


def test_a_recording_that_is_deleted_while_the_store_looks_through_all_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "store") as store:
        for name in ("a", "b"):
            store.create_recording(sample_spec(name), ["a"])
    with Store.open(tmp_path / "store") as store, Store.attach(tmp_path / "store") as attached:
        listed = attached.catalog.list("recording")
        store.delete_recording("a")

        def list_of_before(table: str) -> object:
            return listed if table == "recording" else []

        monkeypatch.setattr(attached.catalog, "list", list_of_before)
        assert [found.id for found in attached.recordings()] == ["b"]
