"""Parts of foreign codes are kept once, in any order, within limits, and removed when stale."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from isogloss.errors import Conflict, InvalidName, ResourceExhausted, ShapeError
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.control import uploads
from isogloss.service.control.uploads import keep_part, read_parts, remove_uploads
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_specs import ImportSpec
from isogloss.service.wire.features import from_part, to_parts
from isogloss.store import CheckedCodes, Store, check_codes


def some_codes(seed: int, segments: int = 90) -> CheckedCodes:
    drawn = np.random.default_rng(seed).random((segments, 6)).astype(np.float32)
    return check_codes(sp.csr_array(drawn * (drawn < 0.4)), segments=segments)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def test_parts_are_counted_up_to_the_first_gap_whatever_their_order(store: Store) -> None:
    codes = some_codes(0)
    assert keep_part(store, codes.digest, 30, codes.part(30, 60)) == 0
    assert keep_part(store, codes.digest, 0, codes.part(0, 30)) == 60
    assert keep_part(store, codes.digest, 0, codes.part(0, 30)) == 60
    assert keep_part(store, codes.digest, 60, codes.part(60, 90)) == 90
    parts = list(read_parts(store, codes.digest))
    assert [part.segments for part in parts] == [30, 30, 30]
    assert [part.digest for part in parts] == [
        codes.part(start, start + 30).digest for start in (0, 30, 60)
    ]


def test_another_part_in_the_same_place_is_refused(store: Store) -> None:
    codes, other = some_codes(0), some_codes(1)
    keep_part(store, codes.digest, 0, codes.part(0, 30))
    for wrong in (other.part(0, 30), codes.part(0, 31)):
        with pytest.raises(Conflict, match="another part from segment 0"):
            keep_part(store, codes.digest, 0, wrong)


@pytest.mark.parametrize("name", ["", "../../etc", "A" * 64, "a" * 63, "a" * 64 + "/"])
def test_a_name_that_is_no_digest_never_becomes_a_path(store: Store, name: str) -> None:
    with pytest.raises(InvalidName, match="wanted the 64 digits"):
        keep_part(store, name, 0, some_codes(0).part(0, 3))
    assert not (store.root / "uploads").exists()


def test_uploads_are_limited_and_stale_ones_are_removed_unless_a_job_wants_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MOST", 2)
    codes = [some_codes(seed, 5) for seed in range(3)]
    for one in codes[:2]:
        keep_part(store, one.digest, 0, one)
    with pytest.raises(ResourceExhausted, match="2 uploads of codes are kept"):
        keep_part(store, codes[2].digest, 0, codes[2])
    jobs = Jobs(store, run_workers=False)
    try:
        spec = ImportSpec(dictionary="d", probe="p", upload=codes[0].digest, features=6)
        jobs.submit(spec)
        assert remove_uploads(store, jobs, 60.0) == 0
        for path in (store.root / "uploads").iterdir():
            os.utime(path, (time.time() - 100, time.time() - 100))
        assert remove_uploads(store, jobs, 60.0) == 1
    finally:
        jobs.close()
    assert [path.name for path in (store.root / "uploads").iterdir()] == [codes[0].digest]
    assert keep_part(store, codes[2].digest, 0, codes[2]) == 5


def test_messages_cut_codes_anywhere_and_give_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = some_codes(3)
    for most in (1, 7, 1 << 17):
        monkeypatch.setattr("isogloss.service.wire.features._PART_ENTRIES", most)
        parts = list(to_parts("probes/p", codes))
        firsts = [part.first_segment for part in parts]
        assert firsts == sorted(set(firsts))
        found = [from_part(part, codes.segments) for part in parts]
        assert sum(part.segments for part in found) == codes.segments
        assert np.concatenate([part.codes.values for part in found]).tolist() == (
            codes.codes.values.tolist()
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_segment": -1}, "does not lie"),
        ({"first_segment": 2}, "does not lie"),
        ({"counts": b""}, "does not lie"),
        ({"counts": b"123"}, "counts has 3 bytes"),
        ({"counts": np.array([2**31, 1], "<u4").tobytes()}, "say 2147483649 entries"),
        ({"indices": b"\0\0\0\0"}, "1 indices and 2 values"),
        ({"indices": np.array([0, 6], "<i4").tobytes()}, r"feature 6 of entry 1"),
        ({"indices": np.array([0, -1], "<i4").tobytes()}, r"feature -1 of entry 1"),
        ({"values": np.array([1, np.nan], "<f4").tobytes()}, "not finite"),
        ({"present": b"\1"}, "present is bool"),
        ({"features": 0}, "features is 0"),
    ],
)
def test_a_part_that_lies_is_refused_before_anything_is_kept(
    changes: dict[str, object], message: str
) -> None:
    good = pb.UploadCodesRequest(
        probe="probes/p",
        features=6,
        counts=np.array([1, 1], "<u4").tobytes(),
        indices=np.array([0, 5], "<i4").tobytes(),
        values=np.array([1, 2], "<f4").tobytes(),
    )
    assert from_part(good, 3).segments == 2
    for name, value in changes.items():
        setattr(good, name, value)
    with pytest.raises((ShapeError, ValueError), match=message):
        from_part(good, 3)
