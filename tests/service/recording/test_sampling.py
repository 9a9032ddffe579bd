"""Which documents are kept depends on their ids alone."""

import re
from dataclasses import replace

import numpy as np
import pytest
from capture_figures import sampling_uniform

from isogloss.errors import InvalidInput
from isogloss.service.recording.options import SampleRate
from isogloss.service.recording.sampling import (
    check_producer,
    producer_of,
    rate_of,
    sample_position,
)
from isogloss.store import Document
from isogloss.store.testing import sample_batch, sample_spec


def test_positions_are_uniform_and_have_nothing_to_do_with_the_split() -> None:
    documents = [Document.from_token_ids([i]) for i in range(20_000)]
    positions = np.sort([sample_position(document.id) for document in documents])
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) at p = .001
    assert np.abs(positions - np.arange(20_000) / 20_000).max() < 1.95 / 20_000**0.5
    splits = [document.split_position for document in documents]
    found = np.corrcoef(splits, [sample_position(document.id) for document in documents])[0, 1]
    assert abs(found) < 4 / 20_000**0.5


def test_positions_are_those_of_every_release() -> None:
    assert sample_position(0) == 0.8921792375093581
    assert sample_position(12345) == 0.9207173582870831
    assert sample_position((1 << 64) - 1) == 0.13772838711769442


def test_a_share_stands_in_the_name_of_its_producer() -> None:
    rate = SampleRate(share=0.1 / 8, first_document=0xC0FFEE)
    name = producer_of("rank-0", rate)
    assert name.startswith("rank-0 ")
    assert rate_of(name) == rate
    assert producer_of("rank-0", SampleRate(share=0.5)) == "rank-0"
    assert rate_of("rank-0") is None


@pytest.mark.parametrize("length", [200, 203, 204, 205, 230, 255, 256])
def test_a_share_fits_the_name_of_every_producer(length: int) -> None:
    rate = SampleRate(share=0.1 / 1024**3, first_document=(1 << 64) - 1)
    names = [producer_of("p" * (length - 1) + last, rate) for last in "ab"]
    assert len(set(names)) == 2
    if length > 205:  # a hash of 16 digits stands for the end: a run that goes on has the same name
        assert all(re.fullmatch(r"p+~[0-9a-f]{16}", name.split(" share=")[0]) for name in names)
        assert {len(name) for name in names} == {256}
    assert all(len(name) <= 256 and rate_of(name) == rate for name in names)
    batch = sample_batch(sample_spec("a"), "p", 1, rows=1)
    assert replace(batch, producer=names[0]).producer == names[0]  # the store takes it


def test_a_producer_that_the_store_does_not_take_is_refused() -> None:
    assert check_producer("p" * 256) == "p" * 256
    for name in ("", "p" * 257):
        with pytest.raises(InvalidInput, match=f"{len(name)} characters, wanted 1 to 256"):
            check_producer(name)
        with pytest.raises(InvalidInput, match=f"{len(name)} characters, wanted 1 to 256"):
            replace(sample_batch(sample_spec("a"), "p", 1, rows=1), producer=name)


@pytest.mark.parametrize("runs", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_what_a_full_queue_keeps_has_nothing_to_do_with_content(runs: int) -> None:
    # a small part of the figure [sampling_uniform], on other documents; a run is repeatable. Few
    # runs say little of the distribution; that the hash alone chose is compared exactly in each
    found = sampling_uniform.sampling_uniform(runs=runs, control_runs=10, first_seed=400)
    assert not found.is_doubtful, found.peers
    assert found.holds, found.peers
