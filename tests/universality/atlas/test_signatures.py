from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, ShapeError, UnsupportedVersion
from isogloss.store import read_arrays, write_arrays
from isogloss.universality import Probe, ProbedDictionary, Sketch, signatures, sketch
from isogloss.universality.atlas.signatures import fold
from isogloss.universality.probe.hashing import splitmix64

WriteCodes = Callable[..., ProbedDictionary]
MakeProbe = Callable[..., Probe]
Floats = NDArray[np.float32]


def keys_of(count: int, start: int = 0) -> NDArray[np.uint64]:
    return splitmix64(np.arange(start, start + count, dtype=np.uint64))


def sparse(segments: int, features: int, density: float = 0.05, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    fires = random.random((segments, features)) < density
    return np.where(fires, random.gamma(2.0, size=fires.shape), 0.0).astype(np.float32)


def correlated(
    segments: int, r: float, features: int = 200, density: float = 0.1, seed: int = 0
) -> tuple[Floats, Floats]:
    """Two dictionaries whose i-th features correlate by about r."""
    random = np.random.default_rng(seed)
    common = sparse(segments, features, density, seed + 1)
    other = common[random.permutation(segments)]
    keep = random.random((segments, 1)) < r
    return common, np.where(keep, common, other)


def exact(a: Floats, b: Floats) -> NDArray[np.float64]:
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


def test_dot_product_is_unbiased_with_deviation_one_over_root_m(write_codes: WriteCodes) -> None:
    a, b = correlated(4000, 0.6)
    r = np.diag(exact(a, b))
    assert 0.5 < r.mean() < 0.7
    probed = [write_codes("a", a), write_codes("b", b)]
    m, errors = 256, list[NDArray[np.float64]]()
    for seed in range(20):
        one, other = (sketch(p, keys_of(4000), m=m, seed=seed).signatures() for p in probed)
        errors.append((one * other).sum(axis=1) - r)
    found = np.concatenate(errors)
    # 4,000 errors that are nearly independent: the mean is known to sd / 60
    assert abs(found.mean()) < 5 * found.std() / np.sqrt(found.size)
    assert found.std() * np.sqrt(m) == pytest.approx(1.0, abs=0.3)


def test_error_halves_when_m_is_four_times_larger(write_codes: WriteCodes) -> None:
    a, b = correlated(4000, 0.0)
    probed = [write_codes("a", a), write_codes("b", b)]
    deviations: list[float] = []
    for m in (128, 512):
        one, other = (sketch(p, keys_of(4000), m=m).signatures() for p in probed)
        deviations.append((one @ other.T - exact(a, b)).std())
    assert deviations[0] / deviations[1] == pytest.approx(2.0, rel=0.1)


def test_signature_is_the_folded_standardised_profile(write_codes: WriteCodes) -> None:
    dense, keys = sparse(500, 30), keys_of(500)
    found = sketch(write_codes("a", dense), keys, m=16).signatures()
    profile = dense.astype(np.float64) - dense.mean(axis=0, dtype=np.float64)
    profile /= np.sqrt((profile**2).sum(axis=0))
    bucket, sign = fold(keys, 16, 0)
    folding = sp.csr_array((sign, (np.arange(500), bucket)), shape=(500, 16))
    np.testing.assert_allclose(found, (folding.T @ profile).T, atol=1e-5)
    weak = sketch(write_codes("weak", (1e-6 * dense).astype(np.float32)), keys, m=16).signatures()
    np.testing.assert_allclose(weak, found, atol=1e-5)


def test_missing_segments_count_in_no_sum(write_codes: WriteCodes) -> None:
    dense, keys = sparse(600, 30), keys_of(600)
    present = np.random.default_rng(3).random(600) < 0.7
    with_gaps = np.where(present[:, None], dense, 0)
    found = sketch(write_codes("gaps", with_gaps, present), keys, m=32).signatures()
    alone = sketch(write_codes("alone", dense[present]), keys[present], m=32).signatures()
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_merged_shards_equal_one_sketch(write_codes: WriteCodes) -> None:
    dense, keys = sparse(900, 40), keys_of(900)
    whole = sketch(write_codes("whole", dense), keys, m=64, seed=5)
    shards = [
        sketch(write_codes(f"shard{n}", dense[rows]), keys[rows], m=64, seed=5)
        for n, rows in enumerate(np.array_split(np.arange(900), 3))
    ]
    merged = shards[0].merge(shards[1]).merge(shards[2])
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-5, atol=1e-5)
    assert np.array_equal(merged.signs, whole.signs)
    assert np.array_equal(merged.moments.fires, whole.moments.fires)
    np.testing.assert_allclose(merged.signatures(), whole.signatures(), atol=1e-5)


def test_sketches_of_another_seed_or_size_do_not_add(write_codes: WriteCodes) -> None:
    probed, keys = write_codes("a", sparse(100, 5)), keys_of(100)
    one = sketch(probed, keys, m=8)
    with pytest.raises(InvalidInput, match="seed 1"):
        one.merge(sketch(probed, keys, m=8, seed=1))
    with pytest.raises(InvalidInput, match=r"\(5, 16\)"):
        one.merge(sketch(probed, keys, m=16))


def test_blocks_of_features_join_without_a_seam(
    write_codes: WriteCodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed, keys = write_codes("a", sparse(200, 70)), keys_of(200)
    whole = sketch(probed, keys, m=8)
    monkeypatch.setattr("isogloss.universality.codes.probed._BLOCK_FEATURES", 16)
    assert np.array_equal(sketch(probed, keys, m=8).sums, whole.sums)


def test_features_that_never_vary_have_a_zero_signature(write_codes: WriteCodes) -> None:
    dense = sparse(100, 4)
    dense[:, 1] = 0
    dense[:, 2] = 1.7
    found = sketch(write_codes("a", dense), keys_of(100), m=16).signatures()
    assert not found[1:3].any()
    assert np.isfinite(found).all()
    assert found[0].any()


def test_buckets_and_signs_are_even() -> None:
    bucket, sign = fold(keys_of(100_000), 100, 0)
    counts = np.bincount(bucket, minlength=100)
    assert bucket.min() == 0
    assert bucket.max() == 99
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # chi-square with 99 degrees: p > 1e-4
    assert abs(sign.sum()) < 5 * np.sqrt(100_000)
    assert abs((sign[:-1] * sign[1:]).sum()) < 5 * np.sqrt(100_000)
    assert set(sign.tolist()) == {-1.0, 1.0}


def test_a_seed_changes_buckets_and_signs() -> None:
    one, other = fold(keys_of(1000), 64, 0), fold(keys_of(1000), 64, 1)
    assert (one[0] == other[0]).mean() < 0.1
    assert 0.4 < (one[1] == other[1]).mean() < 0.6


def test_signatures_of_a_probe_use_its_keys(write_codes: WriteCodes, make_probe: MakeProbe) -> None:
    probed, probe = write_codes("a", sparse(300, 10)), make_probe(300)
    found = signatures(probed, probe, m=32)
    assert found.shape == (10, 32)
    assert found.dtype == np.float32
    assert np.array_equal(found, sketch(probed, probe.keys, m=32).signatures())


def test_saved_sketch_loads_equal(write_codes: WriteCodes, tmp_path: Path) -> None:
    before = sketch(write_codes("a", sparse(100, 5)), keys_of(100), m=8, seed=3)
    before.save(tmp_path / "sketch")
    after = Sketch.load(tmp_path / "sketch")
    assert after.seed == 3
    assert np.array_equal(after.signatures(), before.signatures())
    assert after.moments.rows == 100


def test_another_kind_of_file_is_refused(
    write_codes: WriteCodes, make_probe: MakeProbe, tmp_path: Path
) -> None:
    make_probe(10).save(tmp_path / "probe")
    with pytest.raises(UnsupportedVersion, match="'probe' of version 1, wanted 'sketch'"):
        Sketch.load(tmp_path / "probe")


def test_arrays_of_another_dtype_are_refused(write_codes: WriteCodes, tmp_path: Path) -> None:
    sketch(write_codes("a", sparse(100, 5)), keys_of(100), m=8).save(tmp_path / "sketch")
    arrays, attributes = read_arrays(tmp_path / "sketch")
    wrong = {**arrays, "sums": arrays["sums"].astype(np.float64)}
    write_arrays(tmp_path / "sketch", wrong, attributes)
    with pytest.raises(CorruptData, match="'sums' is float64, wanted float32"):
        Sketch.load(tmp_path / "sketch")


def test_keys_must_be_those_of_the_segments(write_codes: WriteCodes) -> None:
    probed = write_codes("a", sparse(100, 5))
    with pytest.raises(ShapeError, match="100 segments"):
        sketch(probed, keys_of(99))
    with pytest.raises(InvalidInput, match="m is 0"):
        sketch(probed, keys_of(100), m=0)
