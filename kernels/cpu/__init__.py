"""CPU kernels: numba loops beside torch's GEMM."""
