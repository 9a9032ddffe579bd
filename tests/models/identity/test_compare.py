"""The same weights are known again through casts, wrappers and names; others are not."""

import copy
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
)

from isogloss.models import WeightSketch, compare_weights, weight_sketch


def trained(model: nn.Module) -> nn.Module:
    """The same with norms and biases that are not as they were made."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def gpt(seed: int = 0, *, layers: int = 3, width: int = 32) -> nn.Module:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=90, n_embd=width, n_layer=layers, n_head=4, n_positions=40,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return trained(GPT2LMHeadModel(config))


def pythia(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=40, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return trained(GPTNeoXForCausalLM(config))


def deep_pythia(seed: int = 0, *, layers: int = 3) -> nn.Module:
    made = pythia(seed)
    layer = layers_of(made)
    torch.manual_seed(seed + 100)
    for _ in range(layers - len(layer)):
        layer.append(trained(copy.deepcopy(layer[0])))
    return made


def stored(model: nn.Module) -> WeightSketch:
    """A sketch as a recording keeps it."""
    return WeightSketch.from_dict(weight_sketch(model).to_dict())


def cast_to(*dtypes: torch.dtype) -> Callable[[nn.Module], object]:
    def change(model: nn.Module) -> object:
        made = copy.deepcopy(model)
        for dtype in dtypes:
            made = made.to(dtype)
        return made

    return change


def renamed(model: nn.Module) -> object:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.some, self.other = model, nn.Identity()

    return Outer()


SAME: dict[str, Callable[[nn.Module], object]] = {
    "itself": lambda model: model,
    "bfloat16": cast_to(torch.bfloat16),
    "float16": cast_to(torch.float16),
    "float64": cast_to(torch.float64),
    "bfloat16 and back": cast_to(torch.bfloat16, torch.float32),
    "float16 and back": cast_to(torch.float16, torch.float32),
    "data parallel": DataParallel,
    "held under another name": renamed,
}


@pytest.mark.parametrize("what", list(SAME))
@pytest.mark.parametrize("make", [gpt, pythia])
def test_the_same_weights_are_known_again(make: Callable[[], nn.Module], what: str) -> None:
    model = make()
    found = compare_weights(stored(model), weight_sketch(SAME[what](model)))
    assert (found.answer, found.identical) == ("same", 1.0), found.why


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_recorded_in_half_precision_is_known_in_the_other(dtype: torch.dtype) -> None:
    model = gpt()
    half = copy.deepcopy(model).to(dtype)
    other = torch.float16 if dtype == torch.bfloat16 else torch.bfloat16
    assert compare_weights(stored(half), weight_sketch(model)).answer == "same"
    found = compare_weights(stored(half), weight_sketch(copy.deepcopy(model).to(other)))
    assert found.answer == "same", found.why


@pytest.mark.parametrize("make", [gpt, pythia])
def test_a_head_makes_no_difference(make: Callable[[], nn.Module]) -> None:
    whole = make()
    base = whole.get_submodule(str(whole.base_model_prefix))
    assert compare_weights(stored(whole), weight_sketch(base)).answer == "same"
    assert compare_weights(stored(base), weight_sketch(whole)).answer == "same"


def tuned(model: nn.Module, size: float, only: str = "") -> nn.Module:
    made = copy.deepcopy(model)
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if only in name:
                parameter.add_(size * torch.randn_like(parameter))
    return made


def rounded(model: nn.Module) -> nn.Module:
    """Matrices as 8-bit whole numbers with a scale a row, and back."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                scale = parameter.abs().amax(dim=1, keepdim=True) / 127
                parameter.copy_((parameter / scale).round() * scale)
    return made


class Adapter(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base, self.lora_a = model, nn.Parameter(torch.ones(4, 4))


def test_changed_weights_descend() -> None:
    model = gpt()
    changed = {
        "a step of training": tuned(model, 1e-6),
        "training": tuned(model, 5e-3),
        "the last layer alone": tuned(model, 5e-3, only="h.2."),
        "one bias alone": tuned(model, 1e-3, only="h.1.mlp.c_fc.bias"),
        "8 bits": rounded(model),
        "an adapter": Adapter(model),
    }
    for what, made in changed.items():
        found = compare_weights(stored(model), weight_sketch(made))
        assert found.answer == "descended", (what, found.why)
    more = copy.deepcopy(model)
    cast("Callable[[int], object]", more.resize_token_embeddings)(93)
    assert compare_weights(stored(model), weight_sketch(more)).answer == "descended"


def test_other_models_are_others() -> None:
    model = gpt()
    transposed = copy.deepcopy(model)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "attn.c_proj.weight": lambda weight: weight.T,
        "attn.c_attn.weight": lambda weight: weight.flip(1),
        "mlp.c_fc.weight": lambda weight: weight.flip(0),
        "mlp.c_proj.weight": lambda weight: weight.flip(1),
    }
    with torch.no_grad():
        for name, weight in transposed.named_parameters():
            for end, change in changes.items():
                if name.endswith(end):
                    weight.copy_(change(weight.clone()))
    others = {
        "another seed": gpt(1),
        "another architecture": pythia(),
        "fewer layers": gpt(layers=1),
        "a wider one": gpt(width=48),
        "noise as large as the weights": tuned(model, 0.2),
        "reordered": transposed,
        "a part": model.get_submodule("transformer.h.0"),
    }
    for what, made in others.items():
        found = compare_weights(stored(model), weight_sketch(made))
        assert found.answer == "other", (what, found.why)


def layers_of(model: nn.Module) -> nn.ModuleList:
    return next(found for found in model.modules() if isinstance(found, nn.ModuleList))


@pytest.mark.parametrize("make", [gpt, deep_pythia])
def test_a_layer_taken_out_or_put_in_makes_another_model(make: Callable[..., nn.Module]) -> None:
    model = make(layers=14)  # one layer is less than a tenth of it
    whole = stored(model)
    changes: dict[str, Callable[[nn.ModuleList], object]] = {
        "the first": lambda layers: layers.pop(0),
        "an inner one": lambda layers: layers.pop(6),
        "one twice": lambda layers: layers.insert(5, copy.deepcopy(layers[4])),
        "a new one": lambda layers: layers.insert(5, layers_of(make(3, layers=1))[0]),
    }
    for what, change in changes.items():
        made = copy.deepcopy(model)
        change(layers_of(made))
        found = compare_weights(whole, weight_sketch(made))
        assert (found.answer, "layers" in found.why) == ("other", True), (what, found.why)
    made = copy.deepcopy(model)
    layers_of(made).pop(13)  # all sites before it are what they were
    assert compare_weights(whole, weight_sketch(made)).answer == "descended"


def test_heads_before_and_between_others_make_no_other_model() -> None:
    class HeadFirst(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.head, self.scale = nn.Linear(32, 90), nn.Linear(32, 32)
            self.base = base

    base = gpt().get_submodule("transformer")
    torch.manual_seed(5)
    whole = trained(HeadFirst(base))
    assert compare_weights(stored(whole), weight_sketch(base)).answer != "other"
    assert compare_weights(stored(base), weight_sketch(whole)).answer == "same"
    config = BertConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    both = trained(BertForPreTraining(config))
    masked = BertForMaskedLM(config)  # the pooler was before its head
    loaded = masked.load_state_dict(both.state_dict(), strict=False)
    assert not loaded.missing_keys
    assert compare_weights(stored(both), weight_sketch(masked)).answer != "other"


def test_weights_that_were_centred_are_others() -> None:
    model = gpt()
    folded = copy.deepcopy(model)
    with torch.no_grad():
        table = folded.get_parameter("transformer.wte.weight")
        table.sub_(table.mean(dim=1, keepdim=True))
    for meant, live in ((model, folded), (folded, model)):
        found = compare_weights(stored(meant), weight_sketch(live))
        assert found.answer == "other"
        assert "folded" in found.why
    assert compare_weights(stored(folded), weight_sketch(folded)).answer == "same"


def test_a_model_whose_norms_were_folded_is_another() -> None:
    model = pythia()
    folded = copy.deepcopy(model)
    with torch.no_grad():
        for number in range(3):
            at = f"gpt_neox.layers.{number}"
            gain, shift, weight, bias = (
                folded.get_parameter(f"{at}.{name}")
                for name in (
                    "input_layernorm.weight",
                    "input_layernorm.bias",
                    "attention.query_key_value.weight",
                    "attention.query_key_value.bias",
                )
            )
            bias.add_(weight @ shift)
            weight.mul_(gain)
            gain.fill_(1.0)
            shift.fill_(0.0)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(model(ids).logits, folded(ids).logits, rtol=1e-3, atol=1e-4)
    found = compare_weights(stored(model), weight_sketch(folded))
    assert (found.answer, "folded" in found.why) == ("other", True), found.why


def test_a_model_recorded_before_its_training_is_its_ancestor() -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=90, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    fresh = GPT2Model(config)
    found = compare_weights(stored(fresh), weight_sketch(tuned(fresh, 1e-3)))
    assert found.answer == "descended", found.why


def test_fresh_norms_say_nothing_and_no_weights_are_unknown() -> None:
    norms = nn.Sequential(*(nn.LayerNorm(16) for _ in range(4)))
    assert compare_weights(stored(norms), weight_sketch(nn.ReLU())).answer == "unknown"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=90, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    one, two = GPT2Model(config), GPT2Model(config)  # equal norms and biases, other matrices
    found = compare_weights(stored(one), weight_sketch(two))
    assert (found.answer, found.identical) == ("other", 0.0), found.why
