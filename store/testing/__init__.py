"""Ways to try a store's promises: sample recordings, failing files, a disk that loses power.

``isogloss.store.testing.contracts`` holds tests to subclass for other batches, lanes and readers;
it is not imported here, since it needs pytest.
"""

from isogloss.store.testing.disk import PowerLoss, SimulatedDisk
from isogloss.store.testing.faults import FaultyFiles
from isogloss.store.testing.samples import check_sample, sample_batch, sample_spec

__all__ = [
    "FaultyFiles",
    "PowerLoss",
    "SimulatedDisk",
    "check_sample",
    "sample_batch",
    "sample_spec",
]
