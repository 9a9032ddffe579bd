"""Ways to try this room without a model: probes and codes with known answers.

``isogloss.universality.testing.contracts`` holds tests to subclass for other probes; it is not
imported here, since it needs pytest.
"""

from isogloss.universality.testing.ground_truth import (
    GroundTruth,
    ground_truth,
    ground_truth_rates,
)
from isogloss.universality.testing.synthetic import (
    ProbeShape,
    drop_firings,
    random_codes,
    synthetic_probe,
    write_probed,
)

__all__ = [
    "GroundTruth",
    "ProbeShape",
    "drop_firings",
    "ground_truth",
    "ground_truth_rates",
    "random_codes",
    "synthetic_probe",
    "write_probed",
]
