from pathlib import Path

import pytest
import torch

from isogloss.dictionaries import TrainConfig, train
from isogloss.dictionaries.kinds.kind import Normalisation, StepBatch
from isogloss.dictionaries.rows.batches import held_out_pairs
from isogloss.dictionaries.rows.joined import join_rows
from isogloss.dictionaries.testing.recorded import record_planted
from isogloss.dictionaries.training.skip import exported_skip, skipped, start_skip, train_skip
from isogloss.dictionaries.wirings.transcoder import Transcoder
from isogloss.errors import InvalidInput, JobCancelled
from isogloss.kernels import StepResult, Workspace
from isogloss.store import Store


def _batch(rows: torch.Tensor, target: torch.Tensor) -> StepBatch:
    return StepBatch(
        rows=rows,
        target=target,
        step=1,
        total_steps=1,
        learning_rate=0.0,
        variance=1.7,
        dead=None,
        workspace=Workspace(),
    )


def _result(residual: torch.Tensor | None, mean: torch.Tensor | None = None) -> StepResult:
    return StepResult(
        squared_error=0.0,
        loss=0.0,
        aux_loss=0.0,
        fired=torch.zeros(1),
        residual=residual,
        mean_residual=mean,
    )


@pytest.mark.parametrize("prefixes", [False, True])
def test_the_map_takes_the_gradient_of_the_squared_error(prefixes: bool):
    generator = torch.Generator().manual_seed(0)
    x, y, written = (torch.randn(9, width, generator=generator) for width in (5, 3, 3))
    tensors = start_skip(3, 5)
    tensors["wiring.skip"].copy_(torch.randn(3, 5, generator=generator))
    map_ = tensors["wiring.skip"].double().requires_grad_()
    loss = (written.double() + x.double() @ map_.T - y.double()).square().sum(1).mean() / 1.7
    (wanted,) = torch.autograd.grad(loss, map_)
    target = y - skipped(tensors, x)
    torch.testing.assert_close(skipped(tensors, x), x @ tensors["wiring.skip"].T)
    residual = written - target
    result = _result(residual * 7, residual) if prefixes else _result(residual)
    train_skip(tensors, x, _batch(x, target), result)
    found = tensors["wiring.skip_first"].double() * 10
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_kind_that_returns_no_residual_is_refused():
    rows = torch.zeros(2, 3)
    with pytest.raises(InvalidInput, match="returns no residual"):
        train_skip(start_skip(3, 3), rows, _batch(rows, rows), _result(None))


def test_scales_are_folded_into_the_map():
    tensors = start_skip(2, 3)
    tensors["wiring.skip"].copy_(torch.arange(6.0).view(2, 3))
    reads, writes = torch.full((3,), 2.0), torch.full((2,), 0.5)
    made = exported_skip(
        tensors,
        torch.ones(3),
        Normalisation(scale=4.0, variance=1.0, mean=torch.ones(5), reads=reads, writes=writes),
    )
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    wanted = skipped(tensors, rows * 4 * reads - 1) / (4 * writes)
    torch.testing.assert_close((rows - made["skip_bias"]) @ made["skip"].T, wanted)


def test_a_transcoder_with_a_map_explains_more_and_resumes_to_the_bit(tmp_path: Path):
    with Store.open(tmp_path / "store") as store:
        sources = record_planted(store)
        found: list[float] = []
        for skip in (False, True):
            config = TrainConfig(
                settings={"features": 4, "k": 1, "skip": skip},
                wiring="transcoder",
                batch_rows=128,
                epochs=6.0,
                learning_rate=1e-2,
                seed=1,
            )
            made = train(config, sources, tmp_path / f"{skip}")
            assert ("skip" in made.tensors) == skip
            connection, joined = Transcoder(skip=skip).connect([20, 20]), join_rows(sources)
            (pair,) = held_out_pairs(joined, connection, holdout=config.holdout)
            error = (made.reconstruct(pair.rows) - pair.target).square().sum()
            found.append(float(error / (pair.target - pair.target.mean(0)).square().sum()))
        assert found[1] < 0.5 * found[0], found
        asked = iter([False] * 30 + [True])
        with pytest.raises(JobCancelled):
            train(config, sources, tmp_path / "run", should_stop=lambda: next(asked))
        again = train(config, sources, tmp_path / "run")
        assert again.provenance.weights_sha256 == made.provenance.weights_sha256
