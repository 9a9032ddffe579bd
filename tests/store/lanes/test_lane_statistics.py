"""Statistics of a recording agree with numpy's, measured now or kept before."""

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isogloss.store import FileSystem, Recording, Store, write_arrays
from isogloss.store.lanes.lane_statistics import read_statistics, write_statistics
from isogloss.store.lanes.norm_spread import QUANTILE_ERROR
from isogloss.store.testing import FaultyFiles, sample_batch, sample_spec

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
        spread = found.norms
        assert spread is not None
        median = np.quantile(norms, 0.5, method="inverted_cdf")
        assert spread.quantile(0.5) == pytest.approx(median, rel=QUANTILE_ERROR + 1e-6)
        position = np.minimum(np.asarray(recording.reader().column("position"), np.int64), 8)
        np.testing.assert_array_equal(spread.position_counts, np.bincount(position))


def test_joined_lanes_have_the_spread_of_both(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        for first in (1, 11):
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, "p", first + i) for i in range(10)])
        recording.derive()
        before = recording.statistics(SITES[0])
        assert recording.compact().into == 1
        after = recording.statistics(SITES[0])
        assert before.norms is not None
        assert after.norms is not None
        for name in ("bins", "counts", "squares", "class_means", "class_m2"):
            np.testing.assert_array_equal(getattr(before.norms, name), getattr(after.norms, name))


def test_statistics_kept_before_norms_were_spread_are_still_read(tmp_path: Path) -> None:
    files = FileSystem()
    write_arrays(
        tmp_path / "old",
        {"mean": np.ones(3), "m2": np.full(3, 2.0), "norms": np.array([1.5, 4.0])},
        {"count": 7, "nonfinite": 1, "rows": 8},
    )
    found = read_statistics(files, tmp_path / "old")
    assert (found.count, found.nonfinite, found.norm_max) == (7, 1, 4.0)
    assert found.norms is None
    write_statistics(files, tmp_path / "again", found, 8)
    assert read_statistics(files, tmp_path / "again").norms is None


def test_statistics_are_answered_where_they_cannot_be_kept(tmp_path: Path) -> None:
    files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
    with Store.open(tmp_path / "store", files=files) as store:
        recording = store.create_recording(SPEC, ["a"])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        files.fail_at = files.count + 1
        found = recording.statistics("layer.2")
        assert found.count == recording.reader().rows
        assert not list(recording.directory.glob("lanes/*/statistics-*"))
        files.fail_at = 0
        np.testing.assert_array_equal(recording.statistics("layer.2").mean, found.mean)
        assert list(recording.directory.glob("lanes/*/statistics-*"))
