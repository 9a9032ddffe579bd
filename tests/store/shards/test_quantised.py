"""The lossy tier: by name only, measured, and still a zarr array that everything reads."""

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import CorruptData, StoreOwned, UnknownSite
from isogloss.store import QuantisationError, Recording, SiteSpec, Store
from isogloss.store.schema.recording_spec import DTYPES, Rows
from isogloss.store.shards.quantised import LEVELS, measure_error, quantise_rows, restore_rows
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()
SITES = tuple(site.name for site in SPEC.sites)


def make(store: Store, lives: int = 2) -> Recording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
    for _ in range(lives):
        with recording.open_lane() as lane:
            for _ in range(3):
                lane.append([sample_batch(SPEC, "p", lane.cursors.get("p", 0) + 1)])
    return recording


def rounded(values: Rows) -> Rows:
    return restore_rows(*quantise_rows(values), values.dtype)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-30, 30), width=st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_no_number_is_off_by_more_than_half_a_step(
    dtype: str, seed: int, exponent: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    exponent = max(-8, min(8, exponent)) if dtype == "float16" else exponent
    values = (random.standard_normal((9, width)) * 2.0**exponent).astype(DTYPES[dtype])
    values[0] = 0
    wide = values.astype(np.float64)
    back = rounded(values)
    assert back.dtype == values.dtype
    peak = np.abs(wide).max(axis=1, keepdims=True)
    # half a step of peak / 127, and the rounding of scale, product and dtype (2^-9 in bfloat16)
    unit = float(ml_dtypes.finfo(DTYPES[dtype]).eps)
    tiny = float(ml_dtypes.finfo(DTYPES[dtype]).smallest_subnormal)
    bound = peak / (2 * LEVELS) + peak * (unit / 2 + 2e-7) + tiny
    assert (np.abs(back.astype(np.float64) - wide) <= bound).all()
    assert (back[0] == 0).all()


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_the_largest_and_the_smallest_numbers_stay_finite(dtype: str) -> None:
    info = ml_dtypes.finfo(DTYPES[dtype])
    largest, smallest = float(info.max), float(info.smallest_subnormal)
    values = np.array([[largest, -largest, 0], [smallest, 0, -smallest], [0, 0, 0]])
    back = rounded(values.astype(DTYPES[dtype])).astype(np.float64)
    assert np.isfinite(back).all()
    np.testing.assert_allclose(back[0], values[0], rtol=1e-2)
    assert (np.abs(back[1]) <= np.abs(values[1]) * 1.01).all()


def test_rows_that_are_not_finite_read_back_as_nan_throughout() -> None:
    values = np.ones((4, 3), np.float32)
    values[1, 2] = np.inf
    values[3, 0] = np.nan
    back = rounded(values)
    assert np.isnan(back).all(axis=1).tolist() == [False, True, False, True]
    assert (back[[0, 2]] == 1).all()
    error = measure_error(values, back)
    assert (error.rows, error.nonfinite, error.max_abs) == (2, 2, 0.0)
    assert error.relative_rms == 0.0


def test_the_error_given_is_the_error_of_what_is_read(tmp_path: Path) -> None:
    lossy = np.empty(0)
    with Store.open(tmp_path) as store:
        recording = make(store)
        reader = recording.reader()
        exact = {site: reader.read(site, 0, reader.rows).astype(np.float64) for site in SITES}
        statistics = {site: recording.statistics(site) for site in SITES}
        found = recording.quantise()
        assert list(found) == list(SITES)
        for site in SITES:
            lossy = recording.reader().read(site, 0, reader.rows)
            assert lossy.dtype == SPEC.sites[SITES.index(site)].numpy_dtype
            difference = lossy.astype(np.float64) - exact[site]
            wanted = np.sqrt((difference**2).sum() / (exact[site] ** 2).sum())
            assert found[site].relative_rms == pytest.approx(wanted, rel=1e-9)
            assert found[site].max_abs == np.abs(difference).max()
            assert 0 < found[site].relative_rms < 0.01
            assert found[site].rows == reader.rows
            again = recording.statistics(site)
            assert again.mean.tobytes() == statistics[site].mean.tobytes()
            assert again.norm_mean == statistics[site].norm_mean
        assert recording.quantisation() == found
        assert recording.quantise() == found
        assert store.verify() == []
    with Store.attach(tmp_path) as attached:
        elsewhere = attached.recording("sample")
        assert elsewhere.quantisation() == found
        assert elsewhere.reader().read("layer.2", 3, 40).tobytes() == lossy[3:40].tobytes()
        with pytest.raises(StoreOwned, match="attached"):
            elsewhere.quantise()


def test_only_the_sites_named_are_rounded_and_only_sealed_lanes(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        recording.compress()
        lane = recording.open_lane()
        lane.append([sample_batch(SPEC, "p", 7)])
        whole = recording.reader()
        exact = whole.read("layer.1/out", 0, whole.rows)
        with pytest.raises(UnknownSite, match=r"layer\.9"):
            recording.quantise(["layer.2", "layer.9"])
        assert recording.quantisation() == {}
        found = recording.quantise(["layer.2"])
        assert list(found) == ["layer.2"]
        assert found["layer.2"].rows == whole.rows - lane.rows
        reader = recording.reader()
        assert reader.read("layer.1/out", 0, reader.rows).tobytes() == exact.tobytes()
        last = reader.read("layer.2", reader.rows - lane.rows, reader.rows)
        assert last.tobytes() == sample_batch(SPEC, "p", 7).sites["layer.2"].tobytes()
        lane.append([sample_batch(SPEC, "p", 8)])
        lane.close()
        directory = recording.directory / "lanes"
        names = {p.name for p in (directory / recording.lanes()[0].name).iterdir()}
        assert {"compressed-0", "quantised-1"} < names
        assert not {"site-0", "site-1", "compressed-1"} & names
        assert recording.compress() == 2
        assert recording.compact().lanes == 0
        assert store.verify() == []


def test_quantised_rows_are_plain_zarr(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=1)
        reader = recording.reader()
        exact = reader.read("layer.1/out", 0, reader.rows)
        recording.quantise()
        lossy = recording.reader().read("layer.1/out", 0, reader.rows)
        path = recording.directory / "lanes" / recording.lanes()[0].name / "quantised-0"
    group = zarr.open_group(str(path), mode="r")
    arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
    numbers, scale = quantise_rows(exact)
    np.testing.assert_array_equal(arrays["values"], numbers)
    np.testing.assert_array_equal(arrays["scale"], scale)
    assert group.attrs["dtype"] == "bfloat16"
    restored = arrays["values"].astype(np.float32) * arrays["scale"][:, None]
    assert restored.astype(ml_dtypes.bfloat16).tobytes() == lossy.tobytes()


def test_shuffled_reading_and_open_readers_go_on(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        open_before, mapped = recording.reader(), recording.reader()
        rows = open_before.rows
        mapped_epoch = mapped.shuffled(SITES, seed=0, epoch=0, batch_rows=8)
        recording.quantise()
        lossy = recording.reader().read("layer.2", 0, rows)
        assert open_before.read("layer.2", 0, rows).tobytes() == lossy.tobytes()
        for reading in (
            mapped_epoch,
            recording.reader().shuffled(SITES, seed=0, epoch=0, batch_rows=8),
        ):
            for batch in reading:
                np.testing.assert_array_equal(batch.sites["layer.2"], lossy[batch.rows])


def test_a_flipped_bit_in_quantised_rows_is_found(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=1)
        recording.quantise()
        lane = recording.directory / "lanes" / recording.lanes()[0].name
        for path in sorted((lane / "quantised-1").rglob("*")):
            if path.is_dir():
                continue
            whole = path.read_bytes()
            damaged = bytearray(whole)
            damaged[len(whole) // 2] ^= 4
            path.write_bytes(damaged)
            assert any("quantised-1" in problem.message for problem in store.verify()), path
            path.write_bytes(whole)
        assert store.verify() == []
        chunk = lane / "quantised-1/values/c.0.0"
        whole = chunk.read_bytes()
        chunk.write_bytes(whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
        with pytest.raises(CorruptData, match="checksum"):
            recording.reader().read("layer.2", 0, 1)


def test_errors_merge_as_if_measured_together() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((50, 8)).astype(np.float32)
    parts = [measure_error(part, rounded(part)) for part in (values[:20], values[20:])]
    both = parts[0].merge(parts[1])
    whole = measure_error(values, rounded(values))
    assert dataclasses.astuple(both)[0::4] == dataclasses.astuple(whole)[0::4]
    assert both.relative_rms == pytest.approx(whole.relative_rms, rel=1e-12)
    assert QuantisationError.from_dict(both.to_dict()) == both
    assert QuantisationError.none().merge(both) == both


def test_wide_sites_are_written_in_parts(tmp_path: Path) -> None:
    site = SiteSpec(name="s", width=4096, dtype="float16")
    spec = sample_spec(sites=(site,))
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", 1, 700)])
        recording.quantise()
        values = recording.reader().read("s", 0, 700)
        wanted = rounded(sample_batch(spec, "p", 1, 700).sites["s"])
        assert values.tobytes() == wanted.tobytes()
        path = recording.directory / "lanes" / lane.name
        stored = sum(p.stat().st_size for p in (path / "quantised-0").rglob("*") if p.is_file())
        assert stored < 0.53 * 700 * site.row_bytes
