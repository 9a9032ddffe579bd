"""Times on a device, beside what its copies and GEMMs reach."""

from collections.abc import Iterator

import torch

from isogloss.kernels import decode, encode_topk, sparse_gradients
from isogloss.kernels.testing import ceilings
from isogloss.kernels.testing.budgets import EncodeShape
from kernels_figures.counted import FEATURES, ROWS, WIDTH, K
from kernels_figures.figure import Figure


def device_figures() -> Iterator[Figure]:
    """Times on a CUDA or ROCm device over the least time that its copy and GEMM rates allow."""
    device = torch.device("cuda")
    found = ceilings.measure(device)
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(0)
        x = torch.randn(ROWS, WIDTH, device=device, dtype=dtype)
        weight = torch.randn(FEATURES, WIDTH, device=device, dtype=dtype)
        bias = torch.zeros(FEATURES, device=device)
        codes = encode_topk(x, weight, bias, K)
        shape = EncodeShape(
            rows=ROWS, width=WIDTH, features=FEATURES, k=K, size=weight.element_size()
        )
        gathered = ROWS * K * (WIDTH * shape.size + 8)
        both = 2 * FEATURES * WIDTH * 4
        for name, call, moved, operations in (
            (
                "encode",
                lambda: encode_topk(x, weight, bias, K),  # noqa: B023 (called here)
                shape.floor,
                2 * ROWS * WIDTH * FEATURES,
            ),
            ("decode", lambda: decode(codes, weight), gathered, 0),  # noqa: B023
            (
                "gradients",
                lambda: sparse_gradients(codes, x, x, weight),  # noqa: B023
                2 * gathered + both,
                0,
            ),
        ):
            taken = ceilings.time_on_device(call)
            least = found.least_s(moved, operations, dtype)
            yield Figure(
                id=f"device_{name}_{str(dtype).removeprefix('torch.')}",
                value=taken / least,
                bar=None,
                how=f"{taken * 1e3:.3f} ms on {found.device}; least {least * 1e3:.3f} ms by copy "
                f"({found.bytes_per_s / 1e9:.0f} GB/s) and GEMM "
                f"({found.flops_per_s[str(dtype)] / 1e12:.1f} TFLOP/s)",
                runs=20,
            )
