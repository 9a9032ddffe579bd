import pytest
import torch
from tests.dictionaries.kinds.dense import FEATURES, batch_of, rows_of, started

from isogloss.dictionaries.kinds.batch_topk import BatchTopK
from isogloss.dictionaries.kinds.topk import TopK

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
    for clip_norm in (None, 0.01):
        kind = BatchTopK(features=FEATURES, k=K, clip_norm=clip_norm)
        tensors = started(kind)
        kind.step(tensors, batch_of(rows))
        first = [tensor for name, tensor in tensors.items() if name.startswith("first.")]
        norms.append(10 * float(torch.cat([tensor.flatten() for tensor in first]).norm()))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=1e-4)


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
