"""The cases of coactivation, coactivation_blocks and feature_moments."""

from collections.abc import Iterator
from functools import partial

from isogloss.kernels.gpu import coactivation
from isogloss.kernels.gpu.configs import MOST_REGISTERS
from isogloss.kernels.testing.matrix.case import Case
from isogloss.kernels.values.coactivation import MOMENT_PARTS


def coactivation_cases() -> Iterator[Case]:
    """The kernels of co-activation as this room launches them."""
    entries = {
        "values_a_ptr": "*fp32",
        "rows_a_ptr": "*i32",
        "starts_a_ptr": "*i32",
        "values_b_ptr": "*fp32",
        "places_b_ptr": "*i32",
        "starts_b_ptr": "*i32",
    }
    parts = {"part_products_ptr": "*fp64", "part_cofires_ptr": "*i32", "bits": "i32"}
    yield Case(
        name="coactivation moments",
        kernel=coactivation._moments_kernel,
        arguments={
            "values_ptr": "*fp32",
            "starts_ptr": "*i32",
            "total_ptr": "*fp64",
            "squares_ptr": "*fp64",
            "size": "i32",
        },
        constants={"PARTS": MOMENT_PARTS},
        warps=1,
    )
    sizes = ("first_feature", "rows", "features_a", "features_b", "kept", "min_cofires")
    for pearson, ones in ((1, ()), (0, ()), (1, sizes), (0, sizes)):
        label = f"{'pearson' if pearson else 'jaccard'}{' of sizes 1' if ones else ''}"
        yield Case(
            name=f"coactivation partners {label}",
            kernel=coactivation._partners_kernel,
            arguments={
                **entries,
                **parts,
                **dict.fromkeys(("stats_a_ptr", "stats_b_ptr", "scores_ptr"), "*fp64"),
                **dict.fromkeys(("indices_ptr", "together_ptr"), "*i32"),
                **dict.fromkeys(sizes, "i32"),
            },
            constants={"PEARSON": pearson, "CHUNK": coactivation.CHUNK},
            warps=coactivation.WARPS,
            most_registers=MOST_REGISTERS,
            ones=ones,
        )
    chunked = partial(
        Case,
        constants={"CHUNK": coactivation.CHUNK},
        warps=coactivation.WARPS,
        most_registers=MOST_REGISTERS,
    )
    out = {"products_ptr": "*fp64", "cofires_ptr": "*i32"}
    yield chunked(
        name="coactivation sums",
        kernel=coactivation._sums_kernel,
        arguments={
            **entries,
            **parts,
            **out,
            **dict.fromkeys(("first_feature", "rows", "features_b"), "i32"),
        },
    )
    yield chunked(
        name="coactivation parts",
        kernel=coactivation._parts_kernel,
        arguments={
            **entries,
            **out,
            "keys_ptr": "*i32",
            **dict.fromkeys(("bits", "rows", "features_b"), "i32"),
        },
    )
