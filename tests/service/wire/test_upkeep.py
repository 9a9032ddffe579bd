"""Lanes, problems and the errors of rounding travel without a loss."""

from pathlib import Path

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.values.upkeep import LaneInfo, Quantisation
from isogloss.service.wire.convert import from_message, to_message
from isogloss.service.wire.upkeep import to_lane
from isogloss.store import Problem, QuantisationError, Store, describe_lane
from isogloss.store.testing import sample_batch, sample_spec


def test_a_lane_says_what_its_files_say_and_how_it_was_sealed(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        spec = sample_spec("docs")
        recording = store.create_recording(spec, [])
        lane = recording.open_lane()
        lane.append([sample_batch(spec, "p", 1, rows=5), sample_batch(spec, "q", 1, rows=3)])
        (state,) = recording.lanes()
        is_open = from_message(to_lane(describe_lane(recording, state)), LaneInfo)
        lane.close()
        (state,) = recording.lanes()
        described = describe_lane(recording, state)
        sealed = from_message(to_lane(described), LaneInfo)
        rounded_errors = recording.quantise(["layer.2"])
        (state,) = recording.lanes()
        rounded = from_message(to_lane(describe_lane(recording, state)), LaneInfo)
    assert (is_open.sealed, is_open.reason, is_open.damage) == (False, "", "")
    assert (sealed.sealed, sealed.reason, sealed.damage) == (True, "closed", "")
    assert (sealed.name, sealed.rows, dict(sealed.cursors)) == (state.name, 8, {"p": 1, "q": 1})
    assert sealed.stored_bytes == described.stored_bytes > 0
    assert sealed.sites == described.sites
    assert not sealed.direct
    assert not sealed.is_lossy
    assert rounded.is_lossy
    errors = {site.site: site.error for site in rounded.sites}
    assert errors["layer.1/out"] is None
    assert errors["layer.2"] == rounded_errors["layer.2"]


def test_what_rounding_came_to_is_kept_by_site() -> None:
    first, second = _error(1), _error(2)
    found = Quantisation(errors={"a": first, "b": second}, bytes_before=9, bytes_after=4)
    message = to_message(found, pb.Quantisation)
    assert sorted(error.site for error in message.errors) == ["a", "b"]
    assert from_message(message, Quantisation) == found


def _error(rows: int) -> QuantisationError:
    message = pb.QuantisationError(
        rows=rows, nonfinite=1, squared_error=0.25, squared_norm=8.0, max_abs=0.125
    )
    return from_message(message, QuantisationError)


def test_a_problem_names_its_recording_by_its_resource() -> None:
    message = pb.Problem(recording="recordings/docs", lane="l1", message="bits differ")
    found = from_message(message, Problem)
    assert found == Problem(recording="docs", lane="l1", message="bits differ")
    assert to_message(found, pb.Problem) == message
