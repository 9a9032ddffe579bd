import pytest
import torch
from tests.dictionaries.kinds.dense import (
    FEATURES,
    VARIANCE,
    WIDTH,
    batch_of,
    best_of_rows,
    rows_of,
    started,
)

from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.kinds.batch_topk import BatchTopK
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.kinds.topk import TopK
from isogloss.dictionaries.wirings.wiring import WiredColumns

K = 3


@pytest.mark.parametrize(
    ("start", "wanted"), [(None, [12, 10, 7, 5, 3, 3]), (20, [20, 16, 11, 7, 3, 3])]
)
def test_k_is_annealed_over_the_first_steps(start: int | None, wanted: list[int]):
    kind = BatchTopK(features=FEATURES, k=K, k_start=start, k_anneal=0.4)
    assert [kind.k_at(step, 10) for step in range(1, 7)] == wanted
    tensors, rows = started(kind), rows_of(40)
    kind.step(tensors, batch_of(rows, step=1, of=10))
    fired = kind.step(tensors, batch_of(rows, step=3, of=10)).fired
    assert int(fired.sum()) == wanted[2] * 40


def test_a_long_gradient_is_shortened_to_the_bound():
    rows, norms = rows_of(40), []
    for clip_norm in (0.0, 0.01, None):
        kind = BatchTopK(features=FEATURES, k=K, clip_norm=clip_norm)
        tensors = started(kind)
        kind.step(tensors, batch_of(rows))
        first = [tensor for name, tensor in tensors.items() if name.startswith("first.")]
        norms.append(10 * float(torch.cat([tensor.flatten() for tensor in first]).norm()))
    assert norms[0] > 1 / VARIANCE
    assert norms[1] == pytest.approx(0.01, rel=1e-4)
    assert norms[2] == pytest.approx(1 / VARIANCE, rel=1e-4)


@pytest.mark.parametrize("cls", [TopK, BatchTopK])
def test_norms_are_free_choose_the_features_and_are_folded_on_export(
    cls: type[TopK] | type[BatchTopK],
):
    kind, rows = cls(features=FEATURES, k=K), rows_of(40)
    tensors = started(kind)
    tensors["weights.decoder"].mul_(torch.linspace(0.2, 3.0, FEATURES)[:, None])
    decoder = tensors["weights.decoder"].clone()
    fired = kind.step(tensors, batch_of(rows)).fired  # at learning rate 0
    assert torch.equal(tensors["weights.decoder"], decoder)
    centre = tensors["weights.decoder_bias"]
    pre = (rows - centre) @ tensors["weights.encoder"].T + tensors["weights.encoder_bias"]
    norms = decoder.norm(dim=1)
    if cls is TopK:
        chosen = best_of_rows(pre * norms, K)
        assert torch.equal(fired, (chosen > 0).sum(0).int())
        assert not torch.equal(fired, (best_of_rows(pre, K) > 0).sum(0).int())
    made = kind.export(tensors, Normalisation(scale=1.0, variance=1.0, mean=torch.zeros(6)))
    assert torch.allclose(made["decoder"].norm(dim=1), torch.ones(FEATURES))
    codes = kind.encode(made, rows)
    wanted = best_of_rows(pre * norms, K) if cls is TopK else None
    if wanted is not None:
        dense = torch.zeros(40, FEATURES).scatter(1, codes.indices.long(), codes.values)
        torch.testing.assert_close(dense, wanted, rtol=1e-5, atol=1e-6)
    else:
        assert int(codes.values.numel()) == pytest.approx(K * 40, abs=1)


def test_encoder_and_decoder_start_with_rows_of_the_small_norm():
    connection = WiredColumns(reads=range(WIDTH), writes=range(WIDTH))
    initial = initial_weights(
        features=FEATURES, seed=3, connection=connection, mean=torch.zeros(WIDTH)
    )
    tensors = TopK(features=FEATURES, k=K, init_norm=0.3).start(initial)
    torch.testing.assert_close(tensors["weights.decoder"], 0.3 * initial.decoder)
    assert torch.equal(tensors["weights.encoder"], tensors["weights.decoder"])


@pytest.mark.parametrize(
    "kind", [TopK(features=FEATURES, k=K, k_anneal=0.5), TopK(features=8, k=8)]
)
def test_k_falls_to_its_value_and_never_below(kind: TopK):
    found = [kind.k_at(step, 20) for step in range(1, 21)]
    assert found == sorted(found, reverse=True)
    assert found[0] == max(kind.k, FEATURES // 2 if kind.k_anneal else kind.k)
    assert set(found[10:]) == {kind.k}


def test_annealing_of_k_reaches_the_step_of_topk():
    kind, rows = TopK(features=FEATURES, k=K, k_start=20, k_anneal=1.0), rows_of(40)
    first = kind.step(started(kind), batch_of(rows, step=1, of=10)).fired
    last = kind.step(started(kind), batch_of(rows, step=10, of=10)).fired
    # half of the pre-activations are positive: 12 of 24 features, more than k at the end
    assert int(first.sum()) > 2 * int(last.sum())
    assert int(last.sum()) <= 40 * kind.k_at(10, 10)
