import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import types_pb2
from isogloss.service.wire.scalars import from_dtype, from_json, from_time, to_dtype, to_time


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
