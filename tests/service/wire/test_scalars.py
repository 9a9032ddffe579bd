import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import types_pb2
from isogloss.service.wire.scalars import (
    from_dtype,
    from_json,
    from_struct,
    from_time,
    to_dtype,
    to_struct,
    to_time,
)


@given(st.floats(0, 4e9))
def test_times_are_kept_to_the_microsecond(seconds: float) -> None:
    assert from_time(to_time(seconds)) == pytest.approx(seconds, abs=1e-6, rel=0)


def test_an_unknown_dtype_and_json_that_is_no_object_are_refused() -> None:
    assert from_dtype(to_dtype("bfloat16")) == "bfloat16"
    with pytest.raises(ShapeError):
        from_dtype(types_pb2.DTYPE_UNSPECIFIED)
    with pytest.raises(ShapeError):
        to_dtype("int8")
    assert from_json("", "x") == {}
    for text in ("[1]", "{", "[" * 100_000):
        with pytest.raises(InvalidInput, match="ancestry"):
            from_json(text, "ancestry")


def test_a_struct_gives_back_what_it_was_made_of() -> None:
    values = {
        "whole": 32,
        "real": 0.5,
        "text": "é",
        "yes": True,
        "nothing": None,
        "list": [1, [2.5, "x"], {"y": False}],
        "large": 2**53,
    }
    found = from_struct(Struct.FromString(to_struct(values).SerializeToString()))
    assert found == values
    assert [type(found[name]) for name in ("whole", "real", "yes", "large")] == [
        *(int, float, bool, int)
    ]


@pytest.mark.parametrize("value", [2**53 + 1, object(), {1}, [b"x"]])
def test_what_a_struct_does_not_hold_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"count is .*wanted"):
        to_struct({"count": value})
