"""Switches that must be set before the first import of torch, triton, numba or the product."""

import os

from beartype import BeartypeConf
from beartype.claw import beartype_packages

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other in CI

import torch  # after the switch it reads

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Never isogloss.kernels: the hook breaks triton's cold-cache compilation. Of the store what takes
# arrays. Modules that say shapes are in pyproject.toml: jaxtyping checks them, and binds the
# arguments of each call anew, which was most of the time of a simulated disk. ISOGLOSS_UNCHECKED is
# for long loops over such disks: they take a quarter less without.
CHECKED = (
    *("isogloss.models", "isogloss.dictionaries", "isogloss.universality"),
    *("isogloss.store.schema.batch", "isogloss.store.formats", "isogloss.store.shards"),
    *("isogloss.store.reading", "isogloss.store.exchange"),
    *("isogloss.store.lanes.statistics", "isogloss.store.lanes.files"),
)
if "ISOGLOSS_UNCHECKED" not in os.environ:
    beartype_packages(CHECKED, conf=BeartypeConf(claw_is_pep526=False))
