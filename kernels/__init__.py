"""Fused sparse encode, decode and gradients: tensors in, tensors out."""
