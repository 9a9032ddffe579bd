"""Reading and replacing activations by hooks."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import pytest
import torch
from torch import Tensor, nn

from isogloss.errors import Conflict, InvalidInput, ShapeError, UnknownSite
from isogloss.models import capture, splice


class Output(NamedTuple):
    hidden: Tensor
    other: str


class Layer(nn.Module):
    """Doubles its input, in the container asked for."""

    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.kind = kind
        self.calls = 0

    def forward(self, x: Tensor) -> object:
        self.calls += 1
        x = 2 * x
        kinds = {
            "tensor": x,
            "tuple": (x, "rest"),
            "list": [x, "rest"],
            "mapping": OrderedDict(hidden=x, other="rest"),
            "namedtuple": Output(x, "rest"),
            "nested": ((x, 1), "rest"),
            "text": "no tensor",
        }
        return kinds[self.kind]


def first(output: object) -> Tensor:
    while not isinstance(output, Tensor):
        if isinstance(output, dict):
            output = next(iter(cast("dict[str, object]", output).values()))
        else:
            output = cast("Sequence[object]", output)[0]
    return output


class Chain(nn.Module):
    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(kind) for kind in kinds)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = first(layer(x))
        return x


CONTAINERS = ["tensor", "tuple", "list", "mapping", "namedtuple", "nested"]
ONES = torch.ones(1, 2, 3)


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.mark.parametrize("kind", CONTAINERS)
def test_capture_reads_the_first_tensor_of_any_container(kind: str):
    model = Chain(kind, "tensor")
    with capture(model, ["layers.0"]) as seen:
        model(ONES)
    assert torch.equal(seen["layers.0"], 2 * ONES)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_splice_replaces_the_first_tensor_and_keeps_the_container(kind: str):
    model = Chain(kind, "tensor")
    outputs: list[object] = []
    handle = model.layers[0].register_forward_hook(lambda m, a, out: outputs.append(out))
    with splice(model, {"layers.0": lambda x: x + 1}):
        assert torch.equal(model(ONES), 6 * ONES)
        again = model.layers[0](ONES)
    handle.remove()
    assert type(again) is type(outputs[0])
    assert torch.equal(model(ONES), 4 * ONES)


def test_capture_keeps_a_copy_that_later_layers_cannot_write_into():
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with capture(model, ["0"]) as seen:
        model(torch.full((1, 1, 2), -1.0))
    assert (seen["0"] == -1).all()


def test_capture_is_cut_from_the_graph():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with capture(model, ["0"]) as seen:
        model(ONES).sum().backward()
    assert not seen["0"].requires_grad
    assert model[0].weight.grad is not None


def test_capture_holds_the_last_forward_pass_only():
    model = Chain("tensor", "tensor")
    with capture(model, ["layers.0", "layers.1"]) as seen:
        model(ONES)
        cast("Layer", model.layers[0]).kind = "text"
        with pytest.raises(InvalidInput, match="gives str, not a tensor"):
            model(ONES)
    with pytest.raises(InvalidInput, match=r"layers.1.*not reached"):
        seen["layers.1"]


def test_a_site_outside_the_capture_is_unknown():
    with (
        capture(Chain("tensor"), ["layers.0"]) as seen,
        pytest.raises(UnknownSite, match=r"layers\.0"),
    ):
        seen["layers.1"]


def test_nested_contexts_see_what_those_around_them_made():
    model = Chain("tensor", "tensor")
    sites = ["layers.0"]
    with (
        capture(model, sites) as outer,
        splice(model, {"layers.0": torch.neg}),
        capture(model, sites) as inner,
    ):
        assert torch.equal(model(ONES), -4 * ONES)
    assert torch.equal(outer["layers.0"], 2 * ONES)
    assert torch.equal(inner["layers.0"], -2 * ONES)
    assert hooks(model) == 0


def test_stopping_early_saves_the_layers_behind_the_last_site():
    model = Chain(*["tensor"] * 4)
    with capture(model, ["layers.0", "layers.1"], stop_early=True) as seen:
        for _ in range(3):
            seen.run(ONES)
    assert [layer.calls for layer in model.layers] == [3, 3, 1, 1]
    assert torch.equal(seen["layers.1"], 4 * ONES)


def test_stopping_early_waits_for_the_last_use_of_a_shared_layer():
    model = Chain("tensor", "tensor", "tensor", "tensor")
    model.layers[2] = model.layers[0]
    with capture(model, ["layers.0"], stop_early=True) as seen:
        for _ in range(3):
            seen.run(ONES)
            assert torch.equal(seen["layers.0"], 8 * ONES)
    assert model.layers[3].calls == 1


def test_stopping_early_concerns_run_alone():
    model = Chain("tensor", "tensor")
    with capture(model, ["layers.0"], stop_early=True) as seen:
        seen.run(ONES)
        assert torch.equal(model(ONES), 4 * ONES)


def test_a_model_that_catches_every_exception_still_stops_early():
    class Careful(Chain):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return super().forward(x)
            except Exception:
                return x

    model = Careful("tensor", "tensor")
    with capture(model, ["layers.0"], stop_early=True) as seen:
        seen.run(ONES)
        seen.run(ONES)
    assert model.layers[1].calls == 1


def test_run_passes_keywords_and_the_models_own_errors():
    with capture(Chain("tensor"), ["layers.0"], stop_early=True) as seen:
        seen.run(x=ONES)
        with pytest.raises(TypeError, match="y"):
            seen.run(y=ONES)


def test_run_needs_an_active_capture():
    with pytest.raises(Conflict, match="not active"):
        capture(Chain("tensor"), ["layers.0"]).run(ONES)


def test_a_capture_is_entered_once_at_a_time_and_again_later():
    model = Chain("tensor")
    seen = capture(model, ["layers.0"])
    with seen, pytest.raises(Conflict, match="active already"):
        seen.__enter__()
    with seen:
        seen.run(3 * ONES)
    assert torch.equal(seen["layers.0"], 6 * ONES)
    assert hooks(model) == 0


def test_gradients_flow_through_a_splice():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    scale = torch.tensor(2.0, requires_grad=True)
    with splice(model, {"0": lambda x: x * scale}):
        model(ONES).sum().backward()
    assert scale.grad is not None
    assert model[0].weight.grad is not None


@pytest.mark.parametrize("wrong", [torch.sum, torch.Tensor.double])
def test_a_replacement_of_another_shape_or_dtype_is_refused(wrong: Callable[[Tensor], Tensor]):
    model = Chain("tensor")
    with (
        splice(model, {"layers.0": wrong}),
        pytest.raises(ShapeError, match=r"'layers.0'.*same shape"),
    ):
        model(ONES)
    assert hooks(model) == 0
