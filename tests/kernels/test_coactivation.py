"""Co-activation on the CPU and by Triton against dense float64: values, ties, bits, bad input."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    Coactivation,
    Codes,
    coactivation,
    coactivation_blocks,
    feature_moments,
    reference,
)
from isogloss.kernels.values import coactivation as values_of_pairs
from isogloss.kernels.values.coactivation import Measure

MEASURES = ("pearson", "jaccard")
KINDS = ("plain", "signed", "duplicates", "hot", "silent rows", "silent features")


def codes_of(dense: Tensor, *, ragged: bool = True, dtype: torch.dtype = torch.float32) -> Codes:
    """The entries of a matrix, ragged or with as many a row as the fullest has."""
    k = max(1, int((dense != 0).sum(1).max())) if dense.shape[0] else 1
    order = torch.sort(dense.abs(), dim=1, descending=True, stable=True).indices[:, :k]
    fixed = Codes(
        values=dense.gather(1, order).to(dtype), indices=order.int(), features=dense.shape[1]
    )
    return fixed.to_ragged() if ragged else fixed


def draw(kind: str, rows: int, features: int, seed: int) -> Tensor:
    """A third of the places hold whole numbers, so that sums are exact and scores tie."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randint(1, 4, (rows, features), generator=generator).float()
    dense *= torch.rand(rows, features, generator=generator) < 0.35
    if kind == "signed":
        dense *= torch.where(torch.rand(rows, features, generator=generator) < 0.5, -1.0, 1.0)
    elif kind == "duplicates":
        dense[:, features // 2 :] = dense[:, : features - features // 2].clone()
    elif kind == "hot":
        dense[:, features // 2] = torch.arange(rows) % 3 + 1.0
    elif kind == "silent rows":
        dense[::2] = 0
    elif kind == "silent features":
        dense[:, ::2] = 0
    return dense


def expected(
    a: Tensor, b: Tensor, count: int, measure: Measure, least: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    a, b = a.double(), b.double()
    both = (a != 0).double().T @ (b != 0).double()
    compare = {"pearson": reference.pearson, "jaccard": reference.jaccard}
    scores = compare[measure](a, b)
    indices, best = reference.best_partners(scores, both, count, least)
    cofires = torch.where(indices >= 0, both.gather(1, indices.clamp(min=0)), 0.0)
    return indices.int(), best, cofires.int()


def check(found: Coactivation, wanted: tuple[Tensor, Tensor, Tensor]) -> None:
    for name, tensor in zip(("indices", "scores", "cofires"), wanted, strict=True):
        torch.testing.assert_close(
            getattr(found, name), tensor, rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def check_moments(found: Coactivation, a: Tensor, b: Tensor) -> None:
    for moments, dense in ((found.moments_a, a.double()), (found.moments_b, b.double())):
        assert moments.rows == dense.shape[0]
        assert torch.equal(moments.total, dense.sum(0))
        assert torch.equal(moments.squares, dense.square().sum(0))
        assert torch.equal(moments.fires, (dense != 0).sum(0))


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 24),
    features=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    count=st.integers(1, 6),
    measure=st.sampled_from(MEASURES),
    least=st.integers(0, 3),
    ragged=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_partners_on_the_cpu_are_those_of_the_dense_reference(
    kind: str,
    rows: int,
    features: tuple[int, int],
    count: int,
    measure: Measure,
    least: int,
    ragged: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    a, b = draw(kind, rows, features[0], seed), draw(kind, rows, features[1], seed + 1000)
    count = min(count, features[1])
    found = coactivation(
        codes_of(a, ragged=ragged, dtype=dtype),
        codes_of(b, ragged=not ragged, dtype=dtype),
        count=count,
        measure=measure,
        min_cofires=least,
    )
    check(found, expected(a, b, count, measure, least))
    check_moments(found, a, b)


def by_triton(
    a: Codes, b: Codes, count: int, measure: Measure, least: int = 0, chunk: int = 16
) -> Coactivation:
    testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
    from isogloss.kernels.gpu.coactivation import best_partners

    with testing.interpreter(), testing.poisoned():
        return best_partners(a, b, count, measure, least, chunk)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 12),
    features=st.tuples(st.integers(1, 6), st.integers(1, 36)),
    count=st.integers(1, 5),
    measure=st.sampled_from(MEASURES),
    least=st.integers(0, 2),
    ragged=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_partners_by_triton_are_those_of_the_dense_reference(
    kind: str,
    rows: int,
    features: tuple[int, int],
    count: int,
    measure: Measure,
    least: int,
    ragged: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    a, b = draw(kind, rows, features[0], seed), draw(kind, rows, features[1], seed + 1000)
    count = min(count, features[1])
    left, right = (
        codes_of(a, ragged=ragged, dtype=dtype),
        codes_of(b, ragged=not ragged, dtype=dtype),
    )
    found = by_triton(left, right, count, measure, least)
    check(found, expected(a, b, count, measure, least))
    check_moments(found, a, b)


@pytest.mark.parametrize("on_triton", [False, True])
def test_many_partners_of_few_features_fill_up_with_none(on_triton: bool) -> None:
    a, b = draw("plain", 9, 3, 0), draw("plain", 9, 37, 1)
    if on_triton:  # more partners than a chunk holds
        found = by_triton(codes_of(a), codes_of(b), 37, "pearson")
    else:
        found = coactivation(codes_of(a), codes_of(b), count=37)
    check(found, expected(a, b, 37, "pearson"))
    assert (found.indices == -1).any()
    assert not found.scores[found.indices == -1].any()


@pytest.mark.parametrize("on_triton", [False, True])
def test_signed_features_that_never_fire_together_can_still_correlate(on_triton: bool) -> None:
    a = torch.tensor([[-1.0], [-1.0], [0.0], [0.0]])
    b = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    left, right = codes_of(a), codes_of(b)

    def find(measure: Measure, least: int) -> Coactivation:
        if on_triton:
            return by_triton(left, right, 1, measure, least)
        return coactivation(left, right, measure=measure, min_cofires=least)

    found = find("pearson", 0)
    assert found.indices.tolist() == [[1]]
    assert found.scores.item() == pytest.approx(1.0)
    assert found.cofires.tolist() == [[0]]
    assert find("pearson", 1).indices.tolist() == [[-1]]
    assert find("jaccard", 0).indices.tolist() == [[-1]]


def test_a_feature_is_its_own_best_partner_and_ties_go_to_the_lowest() -> None:
    a = draw("plain", 200, 30, 3)
    found = coactivation(codes_of(a), codes_of(a), count=2)
    assert found.indices[:, 0].tolist() == list(range(30))
    torch.testing.assert_close(found.scores[:, 0], torch.ones(30, dtype=torch.float64))
    twice = torch.cat((a, a), dim=1)
    found = coactivation(codes_of(a), codes_of(twice), count=2)
    assert found.indices.tolist() == [[f, f + 30] for f in range(30)]
    assert torch.equal(found.scores[:, 0], found.scores[:, 1])


def test_constant_features_have_no_correlation_but_overlap() -> None:
    a = torch.full((1000, 2), 0.1)
    found = coactivation(codes_of(a), codes_of(a))
    assert found.indices.tolist() == [[-1], [-1]]
    overlap = coactivation(codes_of(a), codes_of(a), measure="jaccard")
    assert overlap.indices.tolist() == [[0], [0]]
    assert overlap.scores.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("measure", MEASURES)
def test_any_number_of_threads_gives_the_same_bits(measure: Measure) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.rand(60, features, generator=generator)
        * (torch.rand(60, features, generator=generator) < 0.15)
        for features in (130, 40)
    )
    left, right = codes_of(a), codes_of(b)
    threads = torch.get_num_threads()
    seen: list[Coactivation] = []
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            seen.append(coactivation(left, right, count=3, measure=measure))
    finally:
        torch.set_num_threads(threads)
    for other in seen[1:]:
        check(other, (seen[0].indices, seen[0].scores, seen[0].cofires))


@pytest.mark.parametrize("measure", MEASURES)
def test_every_schedule_gives_the_bits_of_the_cpu(measure: Measure) -> None:
    testing = pytest.importorskip("isogloss.kernels.testing.schedule")
    generator = torch.Generator().manual_seed(0)
    a, b = (
        codes_of(
            torch.rand(10, features, generator=generator)
            * (torch.rand(10, features, generator=generator) < 0.4)
        )
        for features in (5, 35)
    )
    wanted = coactivation(a, b, count=2, measure=measure)
    for seed in range(8):
        with testing.shuffled(seed):
            check(by_triton(a, b, 2, measure), (wanted.indices, wanted.scores, wanted.cofires))


def hot_codes(rows: int, features: int, seed: int) -> Codes:
    """Feature 0 fires on every row; values are signed, so that the order of sums shows."""
    generator = torch.Generator().manual_seed(seed)
    indices = 1 + torch.rand(rows, features - 1, generator=generator).argsort(1)[:, :4]
    indices[:, 0] = 0
    values = torch.randn(rows, 4, generator=generator)
    return Codes(values=values, indices=indices.int(), features=features)


def test_a_feature_that_fires_on_every_row_keeps_no_program_busy_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
    meter = pytest.importorskip("isogloss.kernels.testing.meter")
    a, b = hot_codes(60, 9, 0), hot_codes(60, 40, 1)
    seen: list[Coactivation] = []
    longest: list[list[int]] = []
    for bits in (2, 10):  # parts of four entries, and none
        monkeypatch.setattr(values_of_pairs, "PART_BITS", bits)
        wanted = coactivation(a, b, count=3)
        blocks = list(coactivation_blocks(a, b, block=4))
        with testing.interpreter(), testing.poisoned(), meter.metering() as traffic:
            found = coactivation(a, b, count=3)
            others = list(coactivation_blocks(a, b, block=4))
        check(found, (wanted.indices, wanted.scores, wanted.cofires))
        for one, two in zip(blocks, others, strict=True):
            assert torch.equal(one.products, two.products)
            assert torch.equal(one.cofires, two.cofires)
        for side in ("moments_a", "moments_b"):
            for part in ("total", "squares", "fires"):
                assert torch.equal(
                    getattr(getattr(found, side), part), getattr(getattr(wanted, side), part)
                )
        names = ("_moments_kernel", "_partners_kernel", "_sums_kernel", "_parts_kernel")
        longest.append([traffic.kernels[name].longest for name in names])
        seen.append(wanted)
    assert longest[1][0] >= 60
    assert longest[0][0] <= 10
    for kernel in (1, 2, 3):
        assert longest[0][kernel] * 5 < longest[1][1], longest
    torch.testing.assert_close(seen[0].scores, seen[1].scores)
    assert not torch.equal(seen[0].moments_a.squares, seen[1].moments_a.squares)


def test_parts_are_as_many_as_their_sums_have_room_for() -> None:
    bits = values_of_pairs.pair_part_bits
    assert bits(0, 1) == bits(1 << 19, 24_576) == values_of_pairs.PART_BITS == 10
    assert bits(1 << 20, 24_576) == 11
    for entries, features in ((1 << 25, 24_576), (1 << 33, 131_072), (1 << 31, 1 << 28)):
        parts = (entries - 1) >> bits(entries, features)
        assert parts == 0 or 12 * parts * features <= values_of_pairs._PARTS_BYTES
    for rows in (0, 1, 1 << 17, (1 << 31) - 1):
        size = values_of_pairs.moment_part(rows)
        assert size >= 1024
        assert rows <= values_of_pairs.MOMENT_PARTS * size


def test_whole_numbers_of_many_parts_are_summed_exactly_on_the_cpu() -> None:
    """Two and a half thousand firings: parts of 1,024."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randint(-2, 3, (2500, 5), generator=generator).float()
    b = torch.randint(0, 3, (2500, 7), generator=generator).float()
    left, right = codes_of(a), codes_of(b, ragged=False)
    blocks = list(coactivation_blocks(left, right, block=2))
    assert torch.equal(torch.cat([one.products for one in blocks]), a.double().T @ b.double())
    found = coactivation(left, right, count=2)
    check(found, expected(a, b, 2, "pearson"))
    check_moments(found, a, b)


@pytest.mark.parametrize("block", [1, 7, 256])
@pytest.mark.parametrize("on_triton", [False, True])
def test_blocks_hold_the_sums_of_every_pair_whatever_their_size(
    block: int, on_triton: bool
) -> None:
    a, b = draw("signed", 8, 9, 0), draw("signed", 8, 36, 1)
    left, right = codes_of(a), codes_of(b, ragged=False)
    if on_triton:
        testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
        from isogloss.kernels.gpu.coactivation import pair_sums

        with testing.interpreter(), testing.poisoned():
            found = list(pair_sums(left, right, block, 16))
    else:
        found = list(coactivation_blocks(left, right, block=block))
    assert [part.first for part in found] == list(range(0, 9, block))
    assert all(part.products.shape[0] <= block for part in found)
    products = torch.cat([part.products for part in found])
    assert torch.equal(products, a.double().T @ b.double())
    cofires = torch.cat([part.cofires for part in found])
    assert torch.equal(cofires, ((a != 0).float().T @ (b != 0).float()).int())


def test_the_public_functions_take_triton_where_their_tensors_are() -> None:
    testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
    meter = pytest.importorskip("isogloss.kernels.testing.meter")
    a, b = draw("plain", 6, 3, 0), draw("plain", 6, 20, 1)
    left, right = codes_of(a), codes_of(b)
    with testing.interpreter(), meter.metering() as traffic:
        found = coactivation(left, right, count=2)
        blocks = list(coactivation_blocks(left, right))
        moments = feature_moments(left)
    check(found, expected(a, b, 2, "pearson"))
    assert torch.equal(blocks[0].products, a.double().T @ b.double())
    assert torch.equal(moments.total, a.double().sum(0))
    assert {name: kernel.launches for name, kernel in traffic.kernels.items()} == {
        "_moments_kernel": 3,
        "_partners_kernel": 1,
        "_sums_kernel": 1,
    }


def test_candidates_of_many_features_are_merged_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("triton")
    from isogloss.kernels.gpu import coactivation as gpu

    a, b = draw("plain", 10, 7, 0), draw("plain", 10, 36, 1)
    monkeypatch.setattr(gpu, "_CANDIDATE_BYTES", 3 * 16 * 3 * 2)  # three features at once
    check(by_triton(codes_of(a), codes_of(b), 2, "pearson"), expected(a, b, 2, "pearson"))


def test_no_array_of_all_pairs_exists() -> None:
    """50,000 x 50,000 sums would hold 20 GB."""
    features, rows, k = 50_000, 400, 8
    generator = torch.Generator().manual_seed(0)
    a, b = (
        Codes(
            values=torch.rand(rows, k, generator=generator) + 0.5,
            indices=torch.rand(rows, features, generator=generator).topk(k).indices.int(),
            features=features,
        )
        for _ in range(2)
    )
    found = coactivation(a, b)
    silent = found.moments_a.fires == 0
    assert (found.indices[silent] == -1).all()
    some = (~silent).nonzero().squeeze(1)[:40]
    left = reference.dense(a)[:, some]
    scores = reference.pearson(left, reference.dense(b))
    torch.testing.assert_close(found.scores[some, 0], scores.amax(1), rtol=1e-12, atol=1e-12)


def test_triton_writes_candidates_only_and_uses_no_atomics() -> None:
    interpreting = pytest.importorskip("isogloss.kernels.testing.interpreter")
    meter = pytest.importorskip("isogloss.kernels.testing.meter")
    from isogloss.kernels.gpu.coactivation import best_partners

    a, b = codes_of(draw("plain", 10, 4, 0)), codes_of(draw("plain", 10, 128, 1))
    with interpreting.interpreter(), meter.metering() as traffic:
        best_partners(a, b, 2, "pearson", 0, 32)
    kernel = traffic.kernels["_partners_kernel"]
    assert traffic.atomics == 0
    assert kernel.launches == 1
    candidates = 4 * 4 * 2  # features, chunks, kept
    assert kernel.by_argument["scores_ptr"] == 8 * candidates
    assert kernel.by_argument["indices_ptr"] == 4 * candidates
    assert kernel.by_argument["together_ptr"] == 4 * candidates


def test_moments_of_one_dictionary_can_be_asked_for() -> None:
    a = draw("signed", 30, 11, 0)
    for codes in (codes_of(a), codes_of(a, ragged=False)):
        found = feature_moments(codes)
        assert torch.equal(found.total, a.double().sum(0))
        assert torch.equal(found.squares, a.double().square().sum(0))
        assert torch.equal(found.fires, (a != 0).sum(0))
    spread = torch.where(a.double().var(0) > 0, a.double().var(0, correction=0).sqrt() * 30, 0.0)
    torch.testing.assert_close(found.inverse_spread * spread, (spread > 0).double())


@pytest.mark.parametrize("on_triton", [False, True])
def test_no_rows_give_no_partners(on_triton: bool) -> None:
    none = Codes(values=torch.zeros(0, 2), indices=torch.zeros(0, 2, dtype=torch.int32), features=3)
    found = by_triton(none, none, 2, "pearson") if on_triton else coactivation(none, none, count=2)
    assert found.indices.tolist() == [[-1, -1]] * 3
    assert found.moments_a.fires.tolist() == [0, 0, 0]


@pytest.mark.parametrize("on_triton", [False, True])
def test_a_feature_named_twice_on_a_row_is_refused(on_triton: bool) -> None:
    once = codes_of(torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    twice = Codes(
        values=torch.ones(2, 2),
        indices=torch.tensor([[0, 1], [2, 2]], dtype=torch.int32),
        features=3,
    )

    def find(a: Codes, b: Codes) -> Coactivation:
        return by_triton(a, b, 1, "pearson") if on_triton else coactivation(a, b)

    for pair in ((once, twice), (twice, once)):
        name = "codes_a" if pair[0] is twice else "codes_b"
        with pytest.raises(InvalidInput, match=f"{name} name feature 2 of 3 twice on row 1"):
            find(*pair)


def test_codes_that_do_not_fit_are_refused() -> None:
    a, b = codes_of(draw("plain", 6, 5, 0)), codes_of(draw("plain", 6, 7, 1))
    with pytest.raises(ShapeError, match="codes_a cover 6 rows and codes_b 5"):
        coactivation(a, codes_of(draw("plain", 5, 7, 1)))
    for count in (0, 8):
        with pytest.raises(InvalidInput, match=rf"count is {count}; it must be in \[1, 7\]"):
            coactivation(a, b, count=count)
    with pytest.raises(InvalidInput, match="'pearson' or 'jaccard' is wanted"):
        coactivation(a, b, measure="cosine")  # pyright: ignore[reportArgumentType] (refused)
    with pytest.raises(InvalidInput, match="min_cofires is -1"):
        coactivation(a, b, min_cofires=-1)
    with pytest.raises(InvalidInput, match="block is 0"):
        coactivation_blocks(a, b, block=0)
    wrong = Codes(values=torch.ones(6, 1), indices=torch.full((6, 1), 7).int(), features=7)
    with pytest.raises(InvalidInput, match=r"indices span \[7, 7\]"):
        coactivation(a, wrong)
    for value in (float("nan"), float("inf")):
        odd = Codes(values=torch.full((6, 1), value), indices=wrong.indices - 1, features=7)
        with pytest.raises(InvalidInput, match="codes_b hold a value that is not finite"):
            coactivation(a, odd)
    double = Codes(values=torch.ones(6, 1).double(), indices=wrong.indices - 1, features=7)
    with pytest.raises(ShapeError, match=r"values of codes_b is torch\.float64"):
        coactivation(a, double)
    torn = Codes(
        values=torch.ones(3),
        indices=torch.zeros(3, dtype=torch.int32),
        features=7,
        offsets=torch.tensor([0, 1, 1, 1, 1, 2, 2]),
    )
    with pytest.raises(InvalidInput, match="end at 3"):
        coactivation(a, torn)
