"""What is asked about dictionaries, against planned answers, and what is refused before it is."""

import numpy as np
import pytest
from google.longrunning import operations_pb2 as operations
from numpy.typing import NDArray
from tests.service.transport.planned import Planned

from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import dictionaries_pb2, universality_pb2
from isogloss.service.client import dictionaries as calls
from isogloss.service.transport.call import Ask
from isogloss.service.transport.run import run


@pytest.mark.parametrize(
    "rows",
    [np.float32(1.0), np.zeros((2, 4), ">f4"), np.zeros((2, 4)), np.zeros((2, 4), np.int32)],
    ids=["no axis", "big-endian", "float64", "int32"],
)
def test_rows_that_cannot_be_sent_are_refused_here(rows: NDArray[np.generic]) -> None:
    with pytest.raises(ShapeError, match=r"wanted bfloat16, float16 or float32 \[\.\.\., width\]"):
        run(Planned(), calls.encode("d", np.asarray(rows)), 1)


def test_a_rotated_floor_is_a_job_that_names_its_source_and_its_own_id() -> None:
    step = next(calls.floor("small", seed=3))
    assert isinstance(step, Ask)
    request = step.request
    assert isinstance(request, universality_pb2.RotateDictionaryRequest)
    assert (request.source, request.seed) == ("dictionaries/small", 3)
    assert request.dictionary_id.startswith("small")
    job = run(Planned(operations.Operation(name="operations/j")), calls.floor("small"), 1)
    assert job.name == "j"
    with pytest.raises(InvalidInput, match="how is 'shaken', wanted one of rotated, untrained"):
        run(Planned(), calls.floor("small", "shaken"), 1)


@pytest.mark.parametrize(
    ("setting", "value"), [("settings", [1]), ("leave_out", "first"), ("init", 3)]
)
def test_settings_of_several_dictionaries_are_mappings_or_left_out(
    setting: str, value: object
) -> None:
    one: dict[str, object] = {"features": 8, "k": 2}
    step = next(calls.train_many("docs", site="s", runs=[{**one, setting: None}]))
    assert isinstance(step, Ask)
    with pytest.raises(InvalidInput, match=f"{setting}.* is .*, wanted a .*mapping"):
        run(Planned(), calls.train_many("docs", site="s", runs=[{**one, setting: value}]), 1)


@pytest.mark.parametrize("index", [-(1 << 31) - 1, 1 << 31])
def test_indices_that_no_message_holds_are_refused_here(index: int) -> None:
    values = np.ones((2, 2), np.float32)
    with pytest.raises(InvalidInput, match=f"{index}.*: no features"):
        calls.decode("d", values, np.array([[0, 1], [2, index]]))


def test_codes_to_decode_are_sent_with_their_rows_and_their_k() -> None:
    indices = np.array([[[0, 5]], [[7, (1 << 31) - 1]], [[2, -(1 << 31)]]])
    step = next(calls.decode("d", np.full((3, 1, 2), 0.5), indices))
    assert isinstance(step, Ask)
    request = step.request
    assert isinstance(request, dictionaries_pb2.DecodeRequest)
    assert (request.name, request.rows, request.k) == ("dictionaries/d", 3, 2)
    assert np.frombuffer(request.indices, "<i4").tolist() == indices.flatten().tolist()
    assert np.frombuffer(request.values, "<f4").tolist() == [0.5] * 6
