"""Statistics of a recording agree with numpy's, measured now or kept before."""

from collections.abc import Iterator

import numpy as np
import pytest

from isogloss.store import (
    Recording,
    Store,
)
from isogloss.store.testing import sample_batch, sample_spec

SITES = ("layer.1/out", "layer.2")


SPEC = sample_spec()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Three lanes of small shards: sealed, sealed and derived, live."""
    with Store.open(tmp_path_factory.mktemp("readers")) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in (1, 21, 41):
            lane = recording.open_lane()
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(20)])
            if first == 1:
                lane.close()
                recording.derive()
            elif first == 21:
                lane.close()
        yield recording


def wanted(site: str) -> np.ndarray:
    return np.concatenate([sample_batch(SPEC, "p", i).sites[site] for i in range(1, 61)])


@pytest.mark.parametrize("site", SITES)
def test_statistics_agree_with_numpy(recording: Recording, site: str) -> None:
    values = wanted(site).astype(np.float64)
    for found in (recording.statistics(site), recording.statistics(site)):
        assert (found.count, found.nonfinite) == (len(values), 0)
        np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.m2, ((values - values.mean(0)) ** 2).sum(0), rtol=2e-6)
        norms = np.linalg.norm(values, axis=1)
        np.testing.assert_allclose([found.norm_mean, found.norm_max], [norms.mean(), norms.max()])
        np.testing.assert_allclose(found.variance, values.var(0).sum(), rtol=2e-6)
        assert found.revision == recording.revision().id
