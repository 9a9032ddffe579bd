"""Switches that must be set before the first import of torch, triton or numba."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other in CI

import torch  # after the switch it reads

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
