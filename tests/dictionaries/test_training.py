import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries import (
    TrainConfig,
    TrainProgress,
    evaluate,
    held_out_batches,
    initial_decoder,
    train,
)
from isogloss.dictionaries.checkpoints import CheckpointDirectory, exclusive
from isogloss.dictionaries.plan import default_learning_rate, make_plan, measure_rows
from isogloss.dictionaries.state import mean_cosine
from isogloss.errors import InvalidInput, JobCancelled, NonFiniteRows, UnknownSite
from isogloss.kernels import AdamMoments, StepSettings, Weights, train_step_topk
from isogloss.store import RecordingReader, Store

SITE = "encoder.layer.3"
NAMES = ("encoder", "encoder_bias", "decoder", "decoder_bias")
K, AUX_K, VARIANCE = 3, 5, 1.7

Record = Callable[..., RecordingReader]
Superpose = Callable[..., tuple[NDArray[np.float32], NDArray[np.float32]]]


def _weights() -> Weights:
    generator = torch.Generator().manual_seed(2)
    return Weights(
        encoder=torch.randn(24, 6, generator=generator) / 6**0.5,
        encoder_bias=0.1 * torch.randn(24, generator=generator),
        decoder=initial_decoder(24, 6, 3),
        decoder_bias=0.1 * torch.randn(6, generator=generator),
    )


def _largest(pre: Tensor, count: int) -> Tensor:
    kept = torch.zeros_like(pre).scatter(1, pre.topk(count, dim=1).indices, 1.0)
    return pre.relu() * kept


def _documented_loss(rows: Tensor, dead: Tensor | None) -> Callable[..., Tensor]:
    """The equation in train()'s docstring, AuxK's target held constant; in the dtype of rows."""
    start = [_weights().named()[name].to(rows.dtype) for name in NAMES]

    def residual(encoder: Tensor, bias: Tensor, decoder: Tensor, centre: Tensor) -> Tensor:
        pre = (rows - centre) @ encoder.T + bias
        return _largest(pre, K) @ decoder + centre - rows

    target = residual(*start)

    def loss(encoder: Tensor, bias: Tensor, decoder: Tensor, centre: Tensor) -> Tensor:
        error = residual(encoder, bias, decoder, centre).square().sum(1).mean() / VARIANCE
        if dead is None:
            return error
        pre = ((rows - centre) @ encoder.T + bias).masked_fill(~dead, -torch.inf)
        missing = _largest(pre, min(AUX_K, int(dead.sum()))) @ decoder + target
        aux = missing.square().sum() / (target - target.mean(0)).square().sum()
        return error + min(int(dead.sum()) / AUX_K, 1.0) * aux / 32

    return loss


@pytest.mark.parametrize("dead", [0, 3, 12])
def test_a_step_takes_the_gradient_of_the_documented_loss(dead: int):
    rows = torch.randn(9, 6, generator=torch.Generator().manual_seed(9))
    mask = torch.arange(24) < dead if dead else None
    loss = _documented_loss(rows.double(), mask)
    parameters = [_weights().named()[name].double().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(loss, parameters, eps=1e-6, atol=1e-6)
    value = loss(*parameters)
    gradients = dict(zip(NAMES, torch.autograd.grad(value, parameters), strict=True))
    decoder = parameters[2].detach()
    along = (gradients["decoder"] * decoder).sum(1, keepdim=True)
    gradients["decoder"] = gradients["decoder"] - along * decoder

    weights = _weights()
    moments = AdamMoments.zeros_like(weights)
    settings = StepSettings(k=K, learning_rate=0.0, variance=VARIANCE, aux_k=AUX_K)
    result = train_step_topk(rows, weights, moments, settings, step=1, dead=mask)
    assert result.loss == pytest.approx(value.item(), rel=1e-5)
    for name, expected in gradients.items():
        found = moments.first.named()[name].double() / (1 - settings.beta1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=f"{name} differs")
    if mask is not None:
        assert float(gradients["encoder"][:dead].abs().max()) > 0, "AuxK must reach the encoder"


def test_training_explains_rows_it_never_saw(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    config = replace(small_config, epochs=6.0, learning_rate=1e-2)
    seen: list[TrainProgress] = []
    dictionary = train(config, recorded, SITE, tmp_path, on_progress=seen.append)
    found = evaluate(dictionary, held_out_batches(recorded, SITE, holdout=config.holdout))
    assert found.fvu < 0.15
    assert found.fvu == pytest.approx(seen[-1].fvu, rel=0.3)
    assert found.l0 == pytest.approx(seen[-1].l0, rel=0.1)
    assert [point.step for point in seen] == sorted({point.step for point in seen})
    assert seen[-1].step == seen[-1].total_steps
    assert seen[-1].rows == seen[-1].total_steps * config.batch_rows
    assert seen[-1].fvu < 0.5 * seen[0].fvu
    assert all(point.rows_per_s > 0 for point in seen)
    norms = dictionary.decoder.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-5, atol=1e-5)


def test_provenance_says_what_was_learned_from_and_how(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    dictionary = train(small_config, recorded, SITE, tmp_path)
    found = dictionary.provenance
    assert (found.recording, found.site) == (recorded.spec.recording, SITE)
    assert found.revision == recorded.revision.to_dict()
    assert found.config == small_config
    initial = initial_decoder(small_config.features, 32, small_config.seed)
    assert found.init_seed == small_config.seed
    assert found.init_cosine == pytest.approx(mean_cosine(dictionary.decoder, initial))
    assert found.init_cosine is not None
    assert 0.2 < found.init_cosine < 0.9999
    assert len(found.init_hash) == len(found.weights_sha256) == 64
    assert found.curve[-1].step == found.curve[-1].total_steps
    assert found.rows_trained == found.curve[-1].rows


def test_the_scale_of_the_input_changes_codes_by_that_scale_and_nothing_else(
    record: Record, superpose: Superpose, small_config: TrainConfig, tmp_path: Path
):
    rows, _ = superpose(rows=8_000, features=64, width=32, active=3.0, seed=3)
    config = replace(small_config, holdout=0.0)
    # a power of two, so that every intermediate rounds alike
    one, other = (
        train(config, record(rows * scale, dtype="float32"), SITE, tmp_path / str(scale))
        for scale in (1.0, 1024.0)
    )
    torch.testing.assert_close(one.decoder, other.decoder, rtol=0, atol=0)
    some = torch.from_numpy(rows[:100])
    codes, scaled = one.encode(some), other.encode(some * 1024)
    torch.testing.assert_close(scaled.values, codes.values * 1024, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other.decode(scaled), one.decode(codes) * 1024, rtol=1e-4, atol=1e-2)


def test_rows_are_scaled_to_a_mean_squared_norm_of_their_width(
    recorded: RecordingReader, small_config: TrainConfig
):
    plan = make_plan(small_config, recorded, SITE)
    found = measure_rows(recorded, plan)
    rows = recorded.read(SITE, 0, recorded.rows)[plan.keep].astype(np.float64) * found.scale
    assert np.square(rows).sum(1).mean() == pytest.approx(32, rel=1e-9)
    assert found.variance == pytest.approx(np.square(rows - rows.mean(0)).sum(1).mean(), rel=1e-9)
    np.testing.assert_allclose(found.mean.numpy(), rows.mean(0), atol=1e-12)


def test_the_auxiliary_loss_revives_features_that_never_win(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    config = replace(small_config, epochs=3.0, learning_rate=1e-2, dead_after_rows=4096)
    last: dict[int, TrainProgress] = {}
    for aux_k in (0, 16):
        directory = tmp_path / str(aux_k)
        with pytest.raises(JobCancelled):
            train(replace(config, aux_k=aux_k), recorded, SITE, directory, should_stop=lambda: True)
        with exclusive(directory) as checkpoints:
            start = checkpoints.newest()
            assert start is not None
            start.tensors["weights.encoder"][32:] *= 0.05  # two thirds too weak for the top k
            checkpoints.save(start)
        dictionary = train(replace(config, aux_k=aux_k), recorded, SITE, directory)
        last[aux_k] = dictionary.provenance.curve[-1]
    assert last[0].dead_fraction > 0.5
    assert last[16].dead_fraction < 0.3
    assert last[16].fvu < 0.8 * last[0].fvu


def test_the_learning_rate_warms_up_stays_and_falls_to_almost_nothing(
    recorded: RecordingReader, small_config: TrainConfig
):
    config = replace(small_config, epochs=10.0, learning_rate=0.01, decay=0.5)
    plan = make_plan(config, recorded, SITE)
    rates = [plan.learning_rate(step) for step in range(plan.total_steps)]
    warmup = round(0.05 * plan.total_steps)
    assert rates[0] == pytest.approx(0.01 / warmup)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert set(rates[warmup : plan.total_steps // 2]) == {0.01}
    assert rates[plan.total_steps // 2 :] == sorted(rates[plan.total_steps // 2 :], reverse=True)
    assert 0 < rates[-1] < 0.01 / (0.4 * plan.total_steps)


def test_the_default_learning_rate_falls_with_width_features_and_steps():
    rate = default_learning_rate(384, 3072, 600)
    assert rate == pytest.approx(3.06e-3, rel=1e-3)
    assert default_learning_rate(4 * 384, 3072, 600) == pytest.approx(rate / 2)
    assert default_learning_rate(384, 16_384, 600) == pytest.approx(rate / 2)
    assert default_learning_rate(384, 3072, 100_000) == pytest.approx(rate / 10)


def test_the_same_bits_come_from_any_number_of_threads(
    store: Store, recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from isogloss.dictionaries import TrainConfig, train\n"
        "from isogloss.store import Store\n"
        "import torch\n"
        "reader = Store.attach(Path(sys.argv[1])).recording(sys.argv[2]).reader()\n"
        "config = TrainConfig(features=96, k=4, batch_rows=512, epochs=0.5, dead_after_rows=1024)\n"
        "for threads in (1, 2, 4):\n"
        "    torch.set_num_threads(threads)\n"
        f"    made = train(config, reader, {SITE!r}, Path(sys.argv[3]) / str(threads))\n"
        "    print(made.provenance.weights_sha256)\n"
    )
    result = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code, str(store.root), recorded.spec.recording, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "4"},
    )
    hashes = result.stdout.split()
    assert len(hashes) == 3
    assert len(set(hashes)) == 1


def test_the_initial_decoder_is_a_pure_function_of_its_seed():
    first, again, other = (initial_decoder(40, 12, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert mean_cosine(first, other) < 0.2
    torch.testing.assert_close(first.norm(dim=1), torch.ones(40), rtol=1e-6, atol=1e-6)


def test_a_feature_of_every_true_direction_is_recovered(
    record: Record, superpose: Superpose, tmp_path: Path
):
    rows, directions = superpose(rows=40_000, features=64, width=32, active=3.0, seed=3)
    config = TrainConfig(
        features=128, k=4, batch_rows=512, epochs=4.0, learning_rate=1e-2, dead_after_rows=20_000
    )
    dictionary = train(config, record(rows), SITE, tmp_path)
    cosines = torch.from_numpy(directions) @ dictionary.decoder.T
    best = cosines.max(dim=1).values
    assert float((best > 0.9).float().mean()) >= 0.9, f"found {sorted(best.tolist())[:10]}"


def test_an_unknown_site_is_refused_with_the_nearest_names(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(UnknownSite, match=r"encoder\.layer\.4.*nearest: encoder\.layer\.3"):
        train(small_config, recorded, "encoder.layer.4", tmp_path)
    assert not list(tmp_path.glob("checkpoints*"))


def test_too_few_rows_for_one_batch_are_refused(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(InvalidInput, match=r"training rows of 20000.*batch_rows 16384"):
        train(replace(small_config, batch_rows=16_384), recorded, SITE, tmp_path)


def test_rows_that_do_not_vary_are_refused(
    record: Record, small_config: TrainConfig, tmp_path: Path
):
    reader = record(np.ones((2000, 8), dtype=np.float32))
    with pytest.raises(InvalidInput, match="do not vary"):
        train(replace(small_config, features=16), reader, SITE, tmp_path)


def test_rows_that_are_not_finite_are_refused(
    record: Record, small_config: TrainConfig, tmp_path: Path
):
    rows = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    rows[:, 3] = np.nan
    with pytest.raises(NonFiniteRows, match=r"encoder\.layer\.3"):
        train(replace(small_config, features=16), record(rows), SITE, tmp_path)


def test_cancelling_before_the_first_step_leaves_a_checkpoint_of_step_0(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(JobCancelled):
        train(small_config, recorded, SITE, tmp_path, should_stop=lambda: True)
    found = CheckpointDirectory(tmp_path).newest()
    assert found is not None
    assert found.step == 0


def test_a_device_that_does_not_exist_is_refused(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(InvalidInput, match="abacus"):
        train(small_config, recorded, SITE, tmp_path, device="abacus")
