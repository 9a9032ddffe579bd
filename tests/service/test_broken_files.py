"""Files that vanish or turn into directories beneath a real server: every error is ours."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from tests.service.serving import server_on

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire.methods import METHODS
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec

SITE = sample_spec().sites[0].name
CALLS: tuple[type[Message], ...] = (
    pb.GetRecordingRequest,
    pb.GetVocabularyRequest,
    pb.GetSiteStatisticsRequest,
    pb.ReadRequest,
    pb.ReadTokensRequest,
    pb.ReadDocumentsRequest,
    pb.ReadStepsRequest,
    pb.ReadKnownDocumentsRequest,
    pb.ListLanesRequest,
    pb.VerifyRecordingRequest,
    pb.CompactRecordingRequest,
    pb.CompressRecordingRequest,
    pb.CollectGarbageRequest,
)


@dataclass(frozen=True)
class Broken:
    """A recording one of whose files is not what it was."""

    recording: str
    file: str
    how: str


def write(store: Store, recording: str) -> Path:
    spec = sample_spec(recording)
    made = store.create_recording(spec, ["a"] * 1000)
    with made.open_lane() as lane:
        for sequence in (1, 2):
            lane.append([sample_batch(spec, "p", sequence)])
    made.derive()
    return made.directory


def files_of(directory: Path) -> list[Path]:
    found = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return sorted(found)


def break_file(path: Path, how: str) -> None:
    if how == "removed":
        path.unlink()
    elif how == "a directory":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"\x00" * 3)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Broken]]]:
    """A server of recordings each of which has one file that is broken in one way."""
    root = tmp_path_factory.mktemp("broken") / "store"
    made: list[Broken] = []
    with Store.open(root) as store:
        first = write(store, "first")
        names = {name.name: name for name in files_of(first)}  # one of each name
        kinds = {str(name.parent).replace(name.parts[0], "", 1): name for name in names.values()}
        wanted = sorted({*names.values(), *kinds.values()})
        for number, name in enumerate(wanted):
            for how in ("removed", "a directory", "cut"):
                recording = f"r{number}-{how.replace(' ', '-')}"
                directory = write(store, recording)
                # the lane's name differs, the place in the tree does not
                (found,) = [
                    path
                    for path in files_of(directory)
                    if len(path.parts) == len(name.parts)
                    and path.name == name.name
                    and path.parts[2:] == name.parts[2:]
                    and path.parts[0] == name.parts[0]
                ][:1] or [None]
                if found is not None:
                    break_file(directory / found, how)
                    made.append(Broken(recording, str(found), how))
    with server_on(root) as server:
        yield server.addresses[0], made
    shutil.rmtree(root)


def ask(channel: grpc.Channel, kind: type[Message], recording: str) -> tuple[str, str]:
    """Make a call about a recording; return the code and the text of its status."""
    method = next(method for method in METHODS.values() if method.request is kind)
    request = kind()
    if "name" in kind.DESCRIPTOR.fields_by_name:
        request.name = f"recordings/{recording}"  # type: ignore[attr-defined]
    if "site" in kind.DESCRIPTOR.fields_by_name:
        request.site = SITE  # type: ignore[attr-defined]
    raw = request.SerializeToString()
    try:
        if method.gives_stream:
            list(channel.unary_stream(method.path)(raw, timeout=120))
        else:
            channel.unary_unary(method.path)(raw, timeout=120)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""  # type: ignore[attr-defined]
    return "OK", ""


def test_no_broken_file_makes_a_call_an_internal_error(broken: tuple[str, list[Broken]]) -> None:
    address, made = broken
    wrong: list[tuple[Broken, str, str, str]] = []
    assert len(made) > 20
    with grpc.insecure_channel(address) as channel:
        for found in made:
            for kind in CALLS[:-1]:
                code, text = ask(channel, kind, found.recording)
                if code in ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"):
                    wrong.append((found, kind.__name__, code, text))
        for kind in (pb.CollectGarbageRequest, pb.ListRecordingsRequest):
            code, text = ask(channel, kind, "first")
            if code in ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"):
                wrong.append((Broken("all", "", ""), kind.__name__, code, text))
        assert ask(channel, pb.ReadRequest, "first") == ("OK", "")
        assert ask(channel, pb.VerifyRecordingRequest, "first") == ("OK", "")
    assert wrong == []
