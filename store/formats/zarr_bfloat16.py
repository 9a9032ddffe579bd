"""bfloat16 as a zarr data type, under the name tensorstore gives it.

zarr-python 3.1 has none. Importing this module imports zarr; :func:`register_bfloat16` makes
``zarr.open_array`` understand the site arrays of a store.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeGuard, overload

import ml_dtypes
import numpy as np
from zarr.core.common import JSON, ZarrFormat
from zarr.core.dtype import DataTypeValidationError, data_type_registry
from zarr.core.dtype.common import DTypeConfig_V2, DTypeJSON, HasEndianness, HasItemSize
from zarr.core.dtype.wrapper import TBaseDType, ZDType

_NATIVE = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True, kw_only=True)
class BFloat16(ZDType[np.dtype[np.generic], np.generic], HasEndianness, HasItemSize):
    """The upper half of an IEEE float32; little endian on disk.

    ``HasEndianness`` makes zarr write ``endian`` into the bytes codec, which tensorstore wants.
    """

    dtype_cls: ClassVar[type[np.dtype[np.generic]]] = type(_NATIVE)
    _zarr_v3_name: ClassVar[Literal["bfloat16"]] = "bfloat16"

    @property
    def item_size(self) -> int:
        """Bytes of one number."""
        return 2

    @classmethod
    def from_native_dtype(cls, dtype: TBaseDType) -> "BFloat16":
        """Return the data type of a numpy dtype."""
        if dtype == _NATIVE:
            return cls()
        raise DataTypeValidationError(f"{dtype} is not bfloat16")

    def to_native_dtype(self) -> np.dtype[np.generic]:
        """Return the numpy dtype."""
        return _NATIVE

    @classmethod
    def _from_json_v2(cls, data: DTypeJSON) -> "BFloat16":
        raise DataTypeValidationError(f"zarr v2 has no bfloat16, found {data!r}")

    @classmethod
    def _from_json_v3(cls, data: DTypeJSON) -> "BFloat16":
        if data == "bfloat16":
            return cls()
        raise DataTypeValidationError(f"{data!r} is not 'bfloat16'")

    @overload
    def to_json(self, zarr_format: Literal[2]) -> DTypeConfig_V2[str, None]: ...

    @overload
    def to_json(self, zarr_format: Literal[3]) -> str: ...

    def to_json(self, zarr_format: ZarrFormat) -> DTypeConfig_V2[str, None] | str:
        """Return the name of the data type in ``zarr.json``."""
        if zarr_format == 2:
            raise DataTypeValidationError("zarr v2 has no bfloat16: write zarr v3")
        return "bfloat16"

    def _check_scalar(self, data: object) -> TypeGuard[float]:
        return isinstance(data, int | float | np.number | ml_dtypes.bfloat16)

    def default_scalar(self) -> np.generic:
        """Return zero."""
        return _NATIVE.type(0)

    def cast_scalar(self, data: object) -> np.generic:
        """Return a number as bfloat16."""
        if self._check_scalar(data):
            return _NATIVE.type(data)
        raise TypeError(f"{data!r} is no number")

    def from_json_scalar(self, data: JSON, *, zarr_format: ZarrFormat) -> np.generic:
        """Read a fill value: a number, "NaN", "Infinity", or the bits as "0x7fc0"."""
        if isinstance(data, str) and data.startswith("0x"):
            return np.uint16(int(data, 16)).view(_NATIVE)
        if isinstance(data, int | float | str):
            return _NATIVE.type(float(data))
        raise TypeError(f"{data!r} is no fill value of bfloat16")

    def to_json_scalar(self, data: object, *, zarr_format: ZarrFormat) -> JSON:
        """Return a fill value as JSON."""
        value = float(str(self.cast_scalar(data)))
        if np.isnan(value):
            return "NaN"
        return value if np.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def register_bfloat16() -> None:
    """Let zarr-python read and write ``bfloat16`` arrays in this process; may be called again."""
    data_type_registry.register("bfloat16", BFloat16)  # pyright: ignore[reportArgumentType] - ml_dtypes' dtype is outside zarr's union of numpy dtypes
