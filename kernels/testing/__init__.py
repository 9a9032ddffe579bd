"""Proof of Triton kernels without a GPU, for this room and for yours.

``interpreter`` runs them on the CPU, with four faults of Triton 3.9's interpreter repaired;
``poisoned`` fills every fresh tensor with NaN; ``metering`` counts the bytes they move;
``shuffled`` runs their programs in another order; ``compile_kernel`` compiles them for GPUs that
are not here (in a process without ``TRITON_INTERPRET``) and reads what the compiler made.
"""
