"""The cases of the gradients."""

from collections.abc import Iterator

from isogloss.kernels.gpu import gradients
from isogloss.kernels.gpu.configs import ROW_REGISTERS
from isogloss.kernels.gpu.decode import row_unit, row_warps
from isogloss.kernels.testing.matrix.case import Case


def slope_case(dtype: str, width: int, *, ragged: int) -> Case:
    """The gradient to the values of codes."""
    padded, warps = 1 << (width - 1).bit_length(), row_warps(width)
    source = f"*{dtype}"
    return Case(
        name=f"value slopes {dtype} width={width}{' ragged' if ragged else ''}",
        kernel=gradients._slopes_kernel,
        arguments={
            "indices_ptr": "*i32",
            "offsets_ptr": "*i64",
            **dict.fromkeys(("weight_ptr", "grad_ptr"), source),
            "out_ptr": "*fp32",
            **dict.fromkeys(("width", "k"), "i32"),
        },
        constants={"RAGGED": ragged, "WIDTH": padded, "UNIT": row_unit(width)},
        warps=warps,
        wide=True,
        even=width % 16 == 0,
    )


def feature_cases(
    dtype: str, width: int, *, ragged: int, listed: int, both: int, whole: str = "i32"
) -> Iterator[Case]:
    """Gradients by feature; ``whole``: the type of places in the sorted list of entries."""
    padded, warps = 1 << (width - 1).bit_length(), row_warps(width)
    source = f"*{dtype}"
    lists = ("rows_ptr", "keys_ptr", "listed_ptr")
    results = ("to_values_ptr", "to_decoder_ptr", "to_encoder_ptr", "to_bias_ptr")
    partial = ("partial_ptr", "partial_bias_ptr")
    said = (" ragged" * ragged, " listed" * listed, " sums only" * (1 - both), f" {whole}")
    label = f"{dtype} width={width}{''.join(said)}"
    constants = {"LISTED": listed, "BOTH": both, "WIDTH": padded, "UNIT": row_unit(width)}
    yield Case(
        name=f"gradients {label}",
        kernel=gradients._features_kernel,
        arguments={
            **dict.fromkeys(lists, "*i32"),
            "order_ptr": "*i64",
            "starts_ptr": f"*{whole}",
            "values_ptr": "*fp32",
            **dict.fromkeys(("grad_ptr", "x_ptr", "decoder_ptr"), source),
            **dict.fromkeys((*results, *partial), "*fp32"),
            **dict.fromkeys(("count", "features", "width", "k"), "i32"),
        },
        constants={**constants, "RAGGED": ragged, "SEGMENT": gradients.SEGMENT},
        warps=warps,
        wide=True,
        even=width % 16 == 0,
    )
    yield Case(
        name=f"gradients, adding parts, width={width}{said[1]}{said[2]} {whole}",
        kernel=gradients._add_parts_kernel,
        arguments={
            "starts_ptr": f"*{whole}",
            "listed_ptr": "*i32",
            **dict.fromkeys((*partial, *results[1:]), "*fp32"),
            "width": "i32",
        },
        constants={**constants, "SEGMENT": gradients.SEGMENT},
        warps=warps,
        most_registers=ROW_REGISTERS,
        wide=True,
        even=width % 16 == 0,
    )
