"""Triton kernels (CUDA and ROCm). Importing a module of this folder imports triton."""
