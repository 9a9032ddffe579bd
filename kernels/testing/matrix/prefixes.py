"""The cases of decode_prefixes."""

from collections.abc import Iterator

from isogloss.kernels.gpu import prefixes
from isogloss.kernels.gpu.decode import row_unit, row_warps
from isogloss.kernels.testing.matrix.case import Case


def prefix_cases() -> Iterator[Case]:
    """The kernel of ``decode_prefixes`` as this room launches it."""
    yield _prefix_case("fp32", 768, ragged=0)
    yield _prefix_case("bf16", 4096, ragged=1)
    yield _prefix_case("bf16", 776, ragged=0)


def _prefix_case(dtype: str, width: int, *, ragged: int) -> Case:
    return Case(
        name=f"prefixes {dtype} width={width}{' ragged' if ragged else ''}",
        kernel=prefixes._prefixes_kernel,
        arguments={
            "values_ptr": "*fp32",
            "indices_ptr": "*i32",
            "offsets_ptr": "*i64",
            "edges_ptr": "*i32",
            "weight_ptr": f"*{dtype}",
            "bias_ptr": f"*{dtype}",
            "out_ptr": f"*{dtype}",
            **dict.fromkeys(("rows", "prefixes", "width", "k"), "i32"),
        },
        constants={
            "RAGGED": ragged,
            "BIAS": 1,
            "WIDTH": 1 << (width - 1).bit_length(),
            "UNIT": row_unit(width),
        },
        warps=row_warps(width),
        wide=True,
        even=width % 16 == 0,
    )
