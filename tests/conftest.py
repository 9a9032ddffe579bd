"""Switches that must be set before the first import of torch, triton or numba."""

import os

from beartype import BeartypeConf
from beartype.claw import beartype_packages

CHECKED = (
    *("schema.batch", "formats", "shards", "reading", "exchange", "lanes.statistics", "lanes.files"),
)
beartype_packages(
    (
        *(f"isogloss.store.{name}" for name in CHECKED),
        *("isogloss.models", "isogloss.dictionaries", "isogloss.universality"),
    ),
    conf=BeartypeConf(claw_is_pep526=False),
)

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other in CI

import torch  # after the switch it reads

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
