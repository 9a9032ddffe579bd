import copy
import logging

import pytest
import torch
from tests.dictionaries.live.planted import (
    FEATURES,
    KINDS,
    WIDTH,
    dense_codes,
    dense_reconstruction,
    random_dictionary,
)
from torch import Tensor, nn

from isogloss.dictionaries import DictionaryModule
from isogloss.dictionaries.sparse_dictionary import tensors_hash
from isogloss.errors import InvalidInput, ShapeError

WIRED = [(kind, transcodes) for kind in KINDS for transcodes in (False, True)]


def module_of(kind: str = "topk", *, transcodes: bool = False) -> DictionaryModule:
    return DictionaryModule(random_dictionary(kind, transcodes=transcodes))


def rows_of(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def doubles(module: DictionaryModule) -> dict[str, Tensor]:
    """The weights in float64, each a leaf that takes gradients."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: found.detach().double().requires_grad_() for name, found in named}


@pytest.mark.parametrize(("kind", "transcodes"), WIRED)
def test_the_gradients_of_activations_and_weights_are_those_of_the_equation(
    kind: str, transcodes: bool
) -> None:
    module, given = module_of(kind, transcodes=transcodes), rows_of(3, 4).requires_grad_()
    wanted, source = doubles(module), given.detach().double().requires_grad_()
    (found := module(given)).square().sum().backward()
    (dense := dense_reconstruction(kind, wanted, source)).square().sum().backward()
    torch.testing.assert_close(found, dense.float())
    assert given.grad is not None
    assert source.grad is not None
    torch.testing.assert_close(given.grad, source.grad.float(), rtol=1e-4, atol=1e-4)
    for name, weight in module.named_parameters():
        assert weight.grad is not None, name
        other = wanted[name].grad
        wide = torch.zeros_like(wanted[name]) if other is None else other  # of a closed gate
        torch.testing.assert_close(weight.grad, wide.float(), rtol=1e-4, atol=1e-4)
    assert {name for name, _ in module.named_buffers()} <= {"threshold", "input_bias", "skip_bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_codes_and_reconstructions_have_the_same_bits(kind: str) -> None:
    module, given = module_of(kind), rows_of(16)
    dense, whole = module.dense(given), module(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module.dense(given), dense)
        assert torch.equal(module(given), whole)
        assert torch.equal(module.decode(dense), module.decode(dense).float())


def test_gradients_reach_what_made_the_activations() -> None:
    table = nn.Embedding(9, WIDTH)
    module = module_of()
    module(table(torch.tensor([[1, 2, 3]]))).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad[1:4].abs().sum(1).min() > 0
    loose = table(torch.tensor([4]))
    random_dictionary().reconstruct(loose).sum().backward()
    assert table.weight.grad[4].abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_the_equation_sparse_and_dense(kind: str) -> None:
    module, given = module_of(kind), rows_of(2, 5)
    codes = module.encode(given)
    wanted = dense_codes(kind, doubles(module), given.double()).float()
    torch.testing.assert_close(codes.dense(), wanted)
    torch.testing.assert_close(module.dense(given), wanted)
    assert codes.shape == (2, 5)
    torch.testing.assert_close(module.decode(codes), module.decode(codes.dense()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3, 2), (0,), (2, 0)])
def test_any_shape_and_dtype_comes_out_as_it_went_in(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    module, given = module_of(), rows_of(*shape).to(dtype)
    codes, out = module.encode(given), module(given)
    assert (out.shape, out.dtype) == (given.shape, dtype)
    assert (codes.dense().shape, codes.dense().dtype) == ((*shape, FEATURES), dtype)
    for decoded in (module.decode(codes), module.decode(codes.dense())):
        assert (decoded.shape, decoded.dtype) == (given.shape, dtype)
    flat = module(given.float().reshape(-1, WIDTH)).reshape(*shape, WIDTH)
    torch.testing.assert_close(out, flat.to(dtype), rtol=0, atol=0)


def test_a_view_that_is_not_contiguous_gives_the_same_bits() -> None:
    module, given = module_of(), rows_of(4, 6)
    strided = torch.stack([given, given], dim=-1)[..., 0].transpose(0, 1)
    assert not strided.is_contiguous()
    torch.testing.assert_close(module(strided), module(given).transpose(0, 1), rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, WIDTH + 1), torch.zeros(2, WIDTH, dtype=torch.int64), torch.zeros(())]
)
def test_activations_that_do_not_fit_are_refused(wrong: Tensor) -> None:
    with pytest.raises(ShapeError, match=rf"wanted floating point \[\.\.\., {WIDTH}\]"):
        module_of()(wrong)


def test_a_part_that_no_passport_has_is_refused_where_there_is_no_passport_too() -> None:
    with pytest.raises(InvalidInput, match="allow names \\['typo'\\]; the parts of a passport are"):
        module_of().encode(rows_of(2), allow=["typo"])
    with pytest.raises(InvalidInput, match="allow names \\['typo'\\]"):
        DictionaryModule(random_dictionary("topk"), allow=["typo"])
    with (
        pytest.raises(InvalidInput, match="allow names \\['typo'\\]"),
        module_of().spliced(nn.Linear(WIDTH, WIDTH), "", allow=["typo"]),
    ):
        pass


def test_codes_of_another_dictionary_are_refused() -> None:
    module = module_of()
    for wrong in (torch.zeros(2, FEATURES + 1), torch.zeros(2, FEATURES, dtype=torch.int32)):
        with pytest.raises(ShapeError, match=f"{FEATURES}\\], the number of features"):
            module.decode(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_may_be_of_half_precision(kind: str) -> None:
    module, given = module_of(kind), rows_of(5)
    narrow = copy.deepcopy(module).to(torch.bfloat16)
    out = narrow(given.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    held = {name: found.double() for name, found in narrow.state_dict().items()}
    wanted = dense_reconstruction(kind, held, given.to(torch.bfloat16).double())
    error = (out.double() - wanted).norm() / wanted.norm()
    assert error < 2**-7  # sums are float32; what is decoded is rounded to bfloat16 twice
    out.sum().backward()
    assert narrow.get_parameter("encoder").grad is not None


def test_float64_weights_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="float64"):
        module_of().double()(rows_of(2))


def test_it_runs_under_inference_mode_and_without_gradients() -> None:
    module, given = module_of("jumprelu"), rows_of(3)
    wanted = module(given).detach()
    with torch.inference_mode():
        torch.testing.assert_close(module(given * 1.0), wanted, rtol=0, atol=0)
    with torch.no_grad():
        assert not module(given).requires_grad


def test_a_state_dict_brings_the_weights_back() -> None:
    module, other = module_of(), DictionaryModule(random_dictionary(seed=5))
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(rows_of(3)), module(rows_of(3)), rtol=0, atol=0)


def test_what_is_saved_again_are_the_weights_as_they_are_now() -> None:
    given = random_dictionary("gated")
    module = DictionaryModule(given)
    same = module.as_dictionary()
    assert tensors_hash(same.settings, same.tensors) == tensors_hash(given.settings, given.tensors)
    with torch.no_grad():
        module.get_parameter("decoder_bias").add_(1)
    torch.testing.assert_close(
        module.as_dictionary().tensors["decoder_bias"], same.tensors["decoder_bias"] + 1
    )


def test_a_threshold_that_was_never_set_is_said() -> None:
    module = module_of("batch_topk")
    module.get_buffer("threshold").fill_(-1)
    with pytest.raises(InvalidInput, match="threshold"):
        module(rows_of(2))


def test_printing_it_is_short_and_tells_kind_and_width() -> None:
    text = repr(module_of("topk", transcodes=True))
    assert len(text) < 400
    assert "TopK" in text
    assert "width 12 -> 7" in text


def test_an_activation_elsewhere_is_met_there_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = module_of().to("meta")  # the only other device that every machine has
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(NotImplementedError):  # a meta tensor has no numbers to copy
                module(rows_of(2))
    assert [record.getMessage() for record in caplog.records if "moves it once" in str(record.msg)]
    assert len(caplog.records) == 1
