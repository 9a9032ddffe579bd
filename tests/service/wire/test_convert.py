"""The converter: pairs of dataclasses and messages, and what it refuses."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.message import Message

from isogloss.errors import InternalError, InvalidInput, InvalidName
from isogloss.proto.v1 import recordings_pb2, server_pb2, types_pb2, universality_pb2
from isogloss.service.values.results import FeatureRef, Hit, RecordingInfo
from isogloss.service.values.server import ServerInfo, ServerLimits
from isogloss.service.values.upkeep import (
    Compression,
    Garbage,
    LaneInfo,
    Quantisation,
    UpkeepProgress,
)
from isogloss.service.wire.convert import Joined, declare
from isogloss.service.wire.messages import from_message, to_message
from isogloss.service.wire.recordings import from_recording, to_recording
from isogloss.store import (
    Compaction,
    Document,
    LaneSite,
    Problem,
    QuantisationError,
    RecordingSpec,
    Revision,
)
from isogloss.store.testing import sample_spec

pb = recordings_pb2
ERROR = QuantisationError(rows=3, nonfinite=1, squared_error=0.5, squared_norm=8.0, max_abs=0.25)
LANE = LaneInfo(
    name="a.1",
    rows=7,
    cursors={"rank-0": 3},
    sealed=True,
    reason="closed",
    damage="",
    sites=(
        LaneSite(site="layer.1", tier="quantised", stored_bytes=9, error=ERROR),
        LaneSite(site="layer.2", tier="live", stored_bytes=11, error=None),
    ),
    stored_bytes=20,
    direct=True,
)
SERVER = ServerInfo(
    version="1",
    python="3.11",
    platform="here",
    start_time=1_700_000_000.125,
    addresses=("unix:/a", "b:1"),
    tls=True,
    token_wanted=True,
    runs_workers=False,
    job_kinds=("train",),
    limits=ServerLimits(
        message_bytes=1, batch_bytes=2, held_bytes=3, page_size=4, calls=5, streams=6
    ),
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (LANE, pb.Lane),
        (SERVER, server_pb2.ServerInfo),
        (Compaction(lanes=4, into=1, rows=9), pb.Compaction),
        (Compression(sites=2, bytes_before=9, bytes_after=5), pb.Compression),
        (Quantisation(errors={"s": ERROR}, bytes_before=9, bytes_after=5), pb.Quantisation),
        (Garbage(files=1, logs=2), pb.Garbage),
        (Problem(recording="r", lane="a.1", message="torn"), pb.Problem),
        (UpkeepProgress(step="a", done=1, total=2), pb.CareProgress),
        (Document.from_text("text", "group"), pb.Document),
        (Document(key=b"k" * 32, text=None, group=""), pb.Document),
        (Revision(recording="0" * 16, lanes=(("a.1", 3),)), types_pb2.Revision),
        (sample_spec("r"), pb.Recording),
    ],
    ids=lambda found: found.__name__ if isinstance(found, type) else "",
)
def test_a_value_comes_back_from_its_message(value: object, message: type[Message]) -> None:
    assert from_message(to_message(value, message), type(value)) == value


def test_the_message_holds_what_another_client_expects() -> None:
    lane = to_message(LANE, pb.Lane)
    assert dict(lane.cursors) == {"rank-0": 3}
    assert [site.tier for site in lane.sites] == [pb.TIER_QUANTISED, pb.TIER_LIVE]
    assert lane.sites[0].error.site == "layer.1"
    assert not lane.sites[1].HasField("error")
    info = to_message(SERVER, server_pb2.ServerInfo)
    assert info.start_time.ToMicroseconds() == 1_700_000_000_125_000
    assert list(info.addresses) == ["unix:/a", "b:1"]
    assert info.limits.streams == 6


def test_a_recording_that_exists_has_what_its_description_lacks() -> None:
    spec = RecordingSpec.from_dict({**sample_spec("r").to_dict(), "nonfinite": "reject"})
    revision = Revision(recording="0" * 16, lanes=(("a.1", 3),))
    info = RecordingInfo(uid="u", etag="e", spec=spec, revision=revision, created=2.5)
    message = to_recording(info)
    assert (message.name, message.rows, message.reject_nonfinite) == ("recordings/r", 3, True)
    assert from_recording(message) == info


def test_a_value_of_another_class_with_the_same_fields_is_written_like_it() -> None:
    class Found:
        dictionary, feature, r, excess, margin = "d", 7, 0.5, 0.25, 0.125
        mutual, cofires, fires, partial_token = True, 3, 4, -0.5
        activation, row, rows, share, cosine, read_cosine = 2.5, 6, 8, 0.5, 0.75, 0.25

    message = to_message(Found(), universality_pb2.Hit, like=Hit)
    assert message.feature == "dictionaries/d/features/7"
    assert from_message(message, Hit).ref == FeatureRef(dictionary="d", feature=7)


# What is malformed.


def test_an_enum_that_is_unknown_here_is_refused() -> None:
    message = to_message(LANE, pb.Lane)
    message.sites[0].tier = pb.TIER_UNSPECIFIED
    with pytest.raises(InvalidInput, match=r"Tier is number 0, wanted .*quantised"):
        from_message(message, LaneInfo)


def test_a_name_of_another_collection_is_refused() -> None:
    with pytest.raises(InvalidName, match="recordings/ID"):
        from_message(pb.Problem(recording="probes/r"), Problem)
    with pytest.raises(InvalidName, match="lower-case"):
        to_message(Problem(recording="R", lane="", message=""), pb.Problem)


def test_json_that_is_none_is_refused_by_the_name_of_its_field() -> None:
    message = to_message(sample_spec("r"), pb.Recording)
    message.model.ancestry_json = "{"
    with pytest.raises(InvalidInput, match="ancestry_json"):
        from_message(message, RecordingSpec)


# Pairs that do not go together are refused before anything is dropped.


@dataclass(frozen=True, kw_only=True)
class Lacking:
    files: int


@dataclass(frozen=True, kw_only=True)
class Surplus:
    files: int
    logs: int
    more: int


@dataclass(frozen=True, kw_only=True)
class OfAnotherType:
    files: str
    logs: int


@dataclass(frozen=True, kw_only=True)
class OfAnotherEnum:
    name: str
    width: int
    dtype: Mapping[str, int]


@pytest.mark.parametrize(
    ("kind", "message", "names"),
    [
        (Lacking, pb.Garbage, "logs"),
        (Surplus, pb.Garbage, "more"),
        (OfAnotherType, pb.Garbage, "files"),
        (OfAnotherEnum, pb.Site, "dtype"),
        (int, pb.Garbage, "no dataclass"),
    ],
)
def test_fields_that_do_not_go_together_are_named(
    kind: type, message: type[Message], names: str
) -> None:
    with pytest.raises(InternalError, match=names):
        from_message(message(), kind)


def test_a_declaration_that_names_an_unknown_field_is_refused() -> None:
    with pytest.raises(InternalError, match="missing"):
        declare(Lacking, pb.Garbage, renamed={"missing": "logs"}, left_out=["logs"])
    with pytest.raises(InternalError, match="files"):
        declare(Lacking, pb.Garbage, joined=[Joined("files", (), lambda value: value.files)])
    with pytest.raises(InternalError, match="declared, or used"):
        declare(Problem, pb.Problem, resources={"recording": "recordings"})


def test_the_example_of_the_folder_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "service/wire" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = [line.partition("# ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert all(line in done.stdout.splitlines() for line in said)
    assert done.stdout
