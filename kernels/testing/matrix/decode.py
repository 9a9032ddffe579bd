"""The cases of decode and decode_loss."""

from collections.abc import Iterator

from isogloss.kernels.gpu import decode
from isogloss.kernels.testing.matrix.case import Case


def decode_cases(dtype: str, width: int, *, ragged: int, extras: int) -> Iterator[Case]:
    """decode and decode_loss; ``extras``: with a bias."""
    padded, warps = 1 << (width - 1).bit_length(), decode.row_warps(width)
    source, label = f"*{dtype}", f"{dtype} width={width}{' ragged' if ragged else ''}"
    common = {"indices_ptr": "*i32", "offsets_ptr": "*i64", "weight_ptr": source}
    sizes = {"width": "i32", "k": "i32"}
    for loss in (0, 1):
        yield Case(
            name=f"decode{'_loss' if loss else ''} {label}{'' if extras else ' no bias'}",
            kernel=decode._decode_kernel,
            arguments={
                **common,
                **sizes,
                **dict.fromkeys(("values_ptr", "squares_ptr"), "*fp32"),
                **dict.fromkeys(("bias_ptr", "target_ptr"), source),
                "out_ptr": "*fp32" if loss else source,
            },
            constants={
                "RAGGED": ragged,
                "BIAS": extras,
                "LOSS": loss,
                "WIDTH": padded,
                "UNIT": decode.row_unit(width),
            },
            warps=warps,
            wide=True,
            even=width % 16 == 0,
        )
