"""Hashes are the published ones and tell everything apart that must be told apart."""

import numpy as np

from isogloss.universality.probe.hashing import halves, segment_keys, splitmix64, text_strata


def test_strata_of_words_fold_case_only_where_asked_to() -> None:
    words = ["the", "The", "cat", "the"]
    the, capital, cat, again = text_strata(words)
    assert len({the, capital, cat}) == 3
    assert the == again
    the, capital, cat, _ = text_strata(words, is_folded=True)
    assert the == capital != cat


def test_keys_tell_documents_and_places_apart() -> None:
    documents = np.array([[1, 2], [2, 1], [1, 3]], np.uint64)
    index = np.repeat(np.arange(3), 1000)
    keys = segment_keys(documents, index, np.tile(np.arange(1000, dtype=np.uint32), 3))
    assert len(np.unique(keys)) == 3000


def test_splitmix64_gives_the_published_sequence() -> None:
    # the generator seeded with 0 adds the golden ratio before each output
    steps = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    wanted = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert splitmix64(steps).tolist() == wanted


def test_halves_part_groups_whole_and_evenly_in_an_order_of_the_seed() -> None:
    random = np.random.default_rng(0)
    groups = [b"group %d" % n for n in range(41) for _ in range(random.integers(1, 9))]
    found = halves(groups, 3)
    for group in set(groups):
        own = {int(half) for half, of in zip(found, groups, strict=True) if of == group}
        assert len(own) == 1
    counts = np.bincount(found, minlength=2)
    assert abs(int(counts[0]) - int(counts[1])) <= 8
    np.testing.assert_array_equal(halves(groups, 3), found)
    assert not np.array_equal(halves(groups, 4), found)
    assert sorted(halves([b"a", b"b"], 0).tolist()) == [0, 1]
