"""bfloat16 as a data type of zarr-python."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

CODE = """
import sys, numpy, ml_dtypes, zarr
from isogloss.store import register_bfloat16
register_bfloat16()
register_bfloat16()
array = zarr.open_array(sys.argv[1], mode="r")
assert array.dtype == ml_dtypes.bfloat16 and array.fill_value == ml_dtypes.bfloat16(1.5)
sys.stdout.buffer.write(array[:].tobytes())
"""


def test_arrays_of_bfloat16_are_read_by_zarr_and_fill_values_of_every_form(tmp_path: Path) -> None:
    values = np.arange(-3, 4).astype(ml_dtypes.bfloat16)
    import zarr
    from zarr.core.dtype import DataTypeValidationError

    from isogloss.store.formats.zarr_bfloat16 import BFloat16, register_bfloat16

    register_bfloat16()
    array = zarr.create_array(
        tmp_path / "x", shape=(7,), chunks=(4,), dtype=values.dtype, fill_value=1.5
    )
    array[:] = values
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "x")], capture_output=True, check=True
    )
    assert done.stdout == values.tobytes()
    kind = BFloat16()
    for given, wanted in (("0x7f80", np.inf), ("-Infinity", -np.inf), (2, 2.0), ("NaN", np.nan)):
        found = kind.from_json_scalar(given, zarr_format=3)
        np.testing.assert_equal(float(str(found)), wanted)
        back = kind.from_json_scalar(kind.to_json_scalar(found, zarr_format=3), zarr_format=3)
        np.testing.assert_equal(float(str(back)), wanted)
    for data in (None, [1]):
        with pytest.raises(TypeError, match="no fill value"):
            kind.from_json_scalar(data, zarr_format=3)
    with pytest.raises(DataTypeValidationError, match="write zarr v3"):
        kind.to_json(2)
    with pytest.raises(DataTypeValidationError, match="float32"):
        BFloat16.from_native_dtype(np.dtype(np.float32))
