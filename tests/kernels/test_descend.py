"""Adam on gradients by entry: beside whole gradient matrices in float64, by name."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels import (
    Codes,
    DescentSettings,
    EntryGradients,
    descend_entries,
    inside_columns,
    reference,
)

ROWS, WIDTH, TARGET, FEATURES = 40, 12, 12, 70
NAMES = ("encoder", "encoder_bias", "decoder", "decoder_bias")


def _parameters(target: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    decoder = torch.randn(FEATURES, target, generator=generator)
    return {
        "encoder": torch.randn(FEATURES, WIDTH, generator=generator),
        "encoder_bias": torch.randn(FEATURES, generator=generator),
        "decoder": decoder / decoder.norm(dim=1, keepdim=True),
        "decoder_bias": torch.randn(target, generator=generator),
    }


def _dense() -> tuple[Tensor, Tensor]:
    """Values and slopes of all entries: some have only one of the two, most have neither."""
    generator = torch.Generator().manual_seed(2)
    shape = (ROWS, FEATURES)
    both = torch.rand(shape, generator=generator) < 0.1
    values = torch.randn(shape, generator=generator) * both
    slopes = torch.randn(shape, generator=generator) * both
    slopes[:, :20] = 0.0
    values[:, 30:50] = 0.0
    return values, slopes


def _gradients(target: int, *, rich: bool) -> EntryGradients:
    generator = torch.Generator().manual_seed(3)
    values, slopes = _dense()
    entries = ((values != 0) | (slopes != 0)).nonzero()
    counts = torch.bincount(entries[:, 0], minlength=ROWS)
    of_bias = torch.randn(FEATURES, generator=generator)
    more = torch.tensor([3, 40, 69])
    return EntryGradients(
        codes=Codes(
            values=values[entries[:, 0], entries[:, 1]],
            indices=entries[:, 1].int(),
            features=FEATURES,
            offsets=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        ),
        slopes=slopes[entries[:, 0], entries[:, 1]],
        source=torch.randn(ROWS, WIDTH, generator=generator),
        downhill=torch.randn(ROWS, target, generator=generator),
        vectors={"encoder_bias": of_bias},
        decoder_bias=torch.randn(target, generator=generator),
        through=of_bias if target == WIDTH else None,
        radial=torch.randn(FEATURES, generator=generator) if rich else None,
        parts=(range(5), range(5, target)) if rich else (),
        more_features=more if rich else None,
        more_rows=torch.randn(3, WIDTH, generator=generator) if rich else None,
    )


def _wanted(
    given: EntryGradients, parameters: dict[str, Tensor], columns: Tensor | None
) -> dict[str, Tensor]:
    values, slopes = (one.double() for one in _dense())
    decoder = parameters["decoder"].double().requires_grad_()
    of_decoder = values.T @ given.downhill.double()
    if given.radial is not None:
        norms = sum(decoder[:, part.start : part.stop].norm(dim=1) for part in given.parts)
        assert isinstance(norms, Tensor)
        of_decoder = of_decoder + torch.autograd.grad(norms @ given.radial.double(), decoder)[0]
    of_encoder = slopes.T @ given.source.double()
    if given.more_features is not None and given.more_rows is not None:
        of_encoder[given.more_features] += given.more_rows.double()
    if columns is not None:
        inside = inside_columns(columns, WIDTH)
        of_encoder, of_decoder = of_encoder * inside, of_decoder * inside
    of_bias = given.decoder_bias.double()
    if given.through is not None:
        of_bias = of_bias - given.through.double() @ parameters["encoder"].double()
    return {
        "encoder": of_encoder,
        "encoder_bias": given.vectors["encoder_bias"].double(),
        "decoder": of_decoder,
        "decoder_bias": of_bias,
    }


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("bound", [None, 0.5, 2.0])
@pytest.mark.parametrize("case", ["plain", "rich", "other_rows", "columns"])
def test_moments_and_parameters_are_those_of_whole_gradients_in_float64(
    case: str, bound: float | None, unit_norm: bool
) -> None:
    target = 20 if case == "other_rows" else TARGET
    parameters, given = _parameters(target), _gradients(target, rich=case == "rich")
    columns = None
    if case == "columns":
        columns = torch.tensor([[0, WIDTH], [0, 5], [5, WIDTH]])[torch.arange(FEATURES) % 3]
    wanted = _wanted(given, parameters, columns)
    if unit_norm:
        exact = parameters["decoder"].double()
        wanted["decoder"] = reference.project_rows(wanted["decoder"], exact)
    norm = float(torch.cat([one.flatten() for one in wanted.values()]).norm())
    shorter = 1.0 if bound is None else min(1.0, bound)
    first, second = (
        {name: torch.zeros_like(one) for name, one in parameters.items()} for _ in range(2)
    )
    after = {name: one.double() for name, one in parameters.items()}
    settings = DescentSettings(
        learning_rate=1e-3,
        beta2=0.99,
        unit_norm=unit_norm,
        clip_norm=None if bound is None else bound * norm,
    )
    descend_entries(parameters, first, second, given, settings, step=1, columns=columns)
    constants = reference.AdamSettings(learning_rate=1e-3, beta2=0.99)
    for name, slope in wanted.items():
        moments = (torch.zeros_like(slope), torch.zeros_like(slope))
        reference.adam(after[name], *moments, slope * shorter, constants, 1)
        torch.testing.assert_close(
            first[name].double() * 10, slope * shorter, rtol=1e-4, atol=1e-5, msg=f"{name}"
        )
    if unit_norm:
        after["decoder"] = reference.normalise_rows(after["decoder"])
    for name, exact in after.items():
        torch.testing.assert_close(
            parameters[name].double(), exact, rtol=1e-4, atol=1e-5, msg=f"{name}"
        )


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    before, runs = torch.get_num_threads(), list[dict[str, Tensor]]()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            parameters, given = _parameters(TARGET), _gradients(TARGET, rich=True)
            first, second = (
                {name: torch.zeros_like(one) for name, one in parameters.items()} for _ in range(2)
            )
            settings = DescentSettings(learning_rate=1e-3, clip_norm=0.1)
            descend_entries(parameters, first, second, given, settings, step=1)
            runs.append({**parameters, **{f"first.{name}": one for name, one in first.items()}})
    finally:
        torch.set_num_threads(before)
    for name, tensor in runs[0].items():
        assert torch.equal(runs[1][name], tensor), name


def test_a_parameter_without_a_gradient_and_a_step_of_zero_are_refused() -> None:
    parameters, given = _parameters(TARGET), _gradients(TARGET, rich=False)
    settings = DescentSettings(learning_rate=1e-3)
    with pytest.raises(InvalidInput, match="step is 0"):
        descend_entries(parameters, parameters, parameters, given, settings, step=0)
    parameters["log_gain"] = torch.zeros(FEATURES)
    with pytest.raises(InvalidInput, match=r"gradients of .*wanted those of .*log_gain"):
        descend_entries(parameters, parameters, parameters, given, settings, step=1)


def test_lazy_adam_leaves_features_without_a_term_and_moves_the_others_as_exact_adam_does() -> None:
    few = torch.arange(FEATURES) % 3 == 0
    given = _gradients(TARGET, rich=True)
    given = replace(
        given,
        codes=given.codes.with_values(given.codes.values * few[given.codes.indices.long()]),
        slopes=given.slopes * few[given.codes.indices.long()].view_as(given.slopes),
        vectors={name: one * few for name, one in given.vectors.items()},
        radial=None,
    )
    still = ~given.moved()
    assert 0 < int(still.sum()) < FEATURES
    found: dict[bool, dict[str, Tensor]] = {}
    for lazy in (False, True):
        parameters = _parameters(TARGET)
        first, second = (
            {name: torch.full_like(one, 0.01) for name, one in parameters.items()} for _ in range(2)
        )
        settings = DescentSettings(learning_rate=1e-3, clip_norm=0.1, lazy=lazy)
        descend_entries(parameters, first, second, given, settings, step=3)
        found[lazy] = {**parameters, **{f"first.{name}": one for name, one in first.items()}}
    for name, one in found[True].items():
        exact = found[False][name]
        if name.endswith("decoder_bias"):
            assert torch.equal(one, exact), name
            continue
        start = _parameters(TARGET).get(name, torch.full_like(one, 0.01))
        assert torch.equal(one[still], start[still]), name
        assert torch.equal(one[~still], exact[~still]), name
        assert not torch.equal(exact[still], start[still]), name
