"""Sites that are no whole output: elements, inputs, heads, patterns."""

import importlib.metadata
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

import pytest
import torch
from tests.models.elements.families import IDS, family
from torch import Tensor, nn

from isogloss.errors import InvalidInput, ShapeError, UnknownSite
from isogloss.models import (
    LoadedModel,
    TextPairs,
    ablate,
    capture,
    distinct_sites,
    splice,
    trace,
)

ATTENTION = "model.layers.1.self_attn"
SITES = {
    f"{ATTENTION}.heads.q": (2, 7, 4, 8),
    f"{ATTENTION}.heads.k": (2, 7, 2, 8),
    f"{ATTENTION}.heads.v": (2, 7, 2, 8),
    f"{ATTENTION}.heads.z": (2, 7, 4, 8),
    f"{ATTENTION}.heads.pattern": (2, 4, 7, 7),
    f"{ATTENTION}.head.3": (2, 7, 8),
    f"{ATTENTION}.head.3.q": (2, 7, 8),
    f"{ATTENTION}.head.3.k": (2, 7, 8),
    f"{ATTENTION}.head.3.v": (2, 7, 8),
    f"{ATTENTION}.head.3.pattern": (2, 7, 7),
    f"{ATTENTION}:0": (2, 7, 32),
    f"{ATTENTION}:1": (2, 4, 7, 7),
    f"{ATTENTION}.o_proj.input": (2, 7, 32),
    "model.layers.1.mlp.input": (2, 7, 32),
    "layers.1.attn.head.3": (2, 7, 8),
    "layers.1.attn:1": (2, 4, 7, 7),
    "layers.1.attn.o_proj.input": (2, 7, 32),
}


def read(model: nn.Module, site: str) -> Tensor:
    with torch.no_grad(), capture(model, [site]) as seen:
        model(IDS)
    return seen[site]


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def state(model: nn.Module) -> list[object]:
    hooks: list[object] = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m))
        for m in model.modules()
    ]
    return [*hooks, cast("Any", model).config._attn_implementation]


@pytest.mark.parametrize("site", list(SITES))
def test_a_site_is_read_replaced_and_left(site: str):
    model = family("llama")
    was, before = state(model), logits(model)
    assert tuple(read(model, site).shape) == SITES[site]
    with splice(model, {site: torch.zeros_like}):
        assert not read(model, site).any()
        changed = logits(model)
    assert not torch.allclose(changed, before)
    with splice(model, {site: torch.clone}):
        torch.testing.assert_close(logits(model), before)  # eager attention rounds otherwise
    assert state(model) == was
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("site", list(SITES))
@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_any_exception_leaves_the_model_as_it_was(site: str, error: type[BaseException]):
    model = family("llama")
    was, before = state(model), logits(model)

    def fails(found: Tensor) -> Tensor:
        raise error(f"at {tuple(found.shape)}")

    with pytest.raises(error), splice(model, {site: fails}), capture(model, list(SITES)):
        logits(model)
    assert state(model) == was
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("site", list(SITES))
def test_a_pass_may_end_early_behind_any_site(site: str):
    model = family("llama")
    was = state(model)
    with torch.no_grad(), capture(model, [site], stop_early=True) as seen:
        for _ in range(2):  # the second is broken off
            seen.run(IDS)
    torch.testing.assert_close(seen[site], read(model, site))
    assert state(model) == was


@pytest.mark.parametrize("site", list(SITES))
def test_gradients_flow_through_a_site(site: str):
    model = family("llama")
    kept: list[Tensor] = []

    def keep(found: Tensor) -> Tensor:
        kept.append(found.clone())
        return kept[-1]

    with splice(model, {site: keep}):
        model(IDS).logits.square().sum().backward(inputs=list(model.parameters()))
        (gradient,) = torch.autograd.grad(model(IDS).logits.square().sum(), kept[-1:])
    model.zero_grad()
    assert gradient.abs().max() > 0


def test_one_head_is_replaced_and_the_others_are_not():
    model = family("llama")
    before = read(model, f"{ATTENTION}.heads.z")
    with splice(model, {f"{ATTENTION}.head.2": torch.zeros_like}):
        after = read(model, f"{ATTENTION}.heads.z")
    assert not after[:, :, 2].any()
    assert torch.equal(after[:, :, [0, 1, 3]], before[:, :, [0, 1, 3]])


def test_a_replaced_pattern_is_what_values_are_mixed_by():
    model = family("gpt2")
    path = "transformer.h.0.attn"
    first: Callable[[Tensor], Tensor] = lambda p: torch.eye(7)[0].expand_as(p).clone()  # noqa: E731
    v = read(model, f"{path}.heads.v")
    with splice(model, {f"{path}.heads.pattern": first}):
        z = read(model, f"{path}.heads.z")
    assert torch.equal(z, v[:, :1].expand_as(z))


def test_the_input_of_a_module_is_found_among_named_arguments():
    class Inner(nn.Module):
        def forward(self, flag: bool, *, x: Tensor) -> Tensor:
            return 2 * x if flag else x

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(True, x=x)

    model, ones = Outer(), torch.ones(1, 2, 3)
    with capture(model, ["inner.input"]) as seen, splice(model, {"inner.input": lambda x: x + 1}):
        assert torch.equal(model(ones), 4 * ones)
    assert torch.equal(seen["inner.input"], ones)


def test_a_submodule_of_the_name_of_an_element_is_itself():
    model = nn.Sequential()
    model.add_module("input", nn.ReLU())
    with capture(model, ["input"]) as seen:
        model(torch.full((1, 1, 1), -1.0))
    assert seen["input"].item() == 0


@pytest.mark.parametrize(
    ("site", "error", "said"),
    [
        (f"{ATTENTION}.head.4", InvalidInput, "has 4 heads, 0 to 3; there is no head 4"),
        (f"{ATTENTION}.head.-1", InvalidInput, "there is no head -1"),
        (f"{ATTENTION}.heads.w", InvalidInput, "q, k, v, z, pattern, not 'w'"),
        (f"{ATTENTION}.head.1.w", InvalidInput, "q, k, v, z, pattern, not 'w'"),
        ("model.layers.1.mlp.heads.q", InvalidInput, "no attention module whose heads are known"),
        ("model.layers.7.attn.head.0", UnknownSite, "no site 'model.layers.7"),
        ("model.layer.1:1", UnknownSite, "nearest: "),
        ("model.layers.1.self_atn.input", UnknownSite, "nearest: "),
        ("model.layers.attn.head.0", InvalidInput, "2 attention modules"),
    ],
)
def test_what_a_model_does_not_show_is_refused_before_any_pass(
    site: str, error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        capture(family("llama"), [site])
    with pytest.raises(error, match=said), splice(family("llama"), {site: torch.clone}):
        pass


@pytest.mark.parametrize(
    "names",
    [
        ("model.layers.1", "layers.1"),
        ("layers.1", "layers.1:0"),
        (f"{ATTENTION}.o_proj.input", "layers.1.attn.o_proj.input"),
        (f"{ATTENTION}:1", "layers.1.attn.heads.pattern"),
        ("layers.1.attn.heads.q", f"{ATTENTION}.heads.q"),
        ("layers.1.attn.head.3", f"{ATTENTION}.head.3.z"),
        ("layers.1.head.2.k", "layers.1.attn.head.2.k"),
        ("layers.1", "layers.1"),
    ],
)
def test_two_names_of_one_place_are_told(names: tuple[str, str]):
    with pytest.raises(InvalidInput, match=r"are one place|named twice"):
        distinct_sites(family("llama"), names)


def test_places_that_differ_are_returned_in_their_order():
    # heads 0 and 1 share a key here, and are two heads all the same
    heads = [f"layers.1.attn.head.{head}{part}" for head in range(4) for part in ("", ".k", ".q")]
    names = [*SITES, "layers.0", "layers.0.input", *heads[3:9]]
    twice = {f"{ATTENTION}.head.3", "layers.1.attn.head.3", "layers.1.attn:1", f"{ATTENTION}:1"}
    alone = [name for name in names if name not in twice]
    alone.remove("layers.1.attn.o_proj.input")
    assert distinct_sites(family("llama"), alone) == tuple(alone)
    with pytest.raises(UnknownSite, match="nearest"):
        distinct_sites(family("llama"), ["layers.0", "layers.9"])
    with pytest.raises(InvalidInput, match="no site was given"):
        distinct_sites(family("llama"), [])


def test_an_element_that_is_not_there_is_named_with_those_that_are():
    model = family("llama")
    with (
        pytest.raises(InvalidInput, match=r"wants element 5 of tuple.*0 .Tensor., 1 .NoneType."),
        capture(model, [f"{ATTENTION}:5"]),
    ):
        model(IDS)


def test_a_replacement_of_another_shape_is_refused():
    model = family("llama")
    with (
        pytest.raises(ShapeError, match=r"head.1'.*\(2, 7, 1\)"),
        splice(model, {f"{ATTENTION}.head.1": lambda z: z[..., :1]}),
    ):
        model(IDS)


PARTS = ("q", "k", "v", "z", "pattern")


def hooked_transformer() -> nn.Module:
    from transformer_lens import HookedTransformer, HookedTransformerConfig  # pyright: ignore[reportMissingImports]

    return HookedTransformer(
        HookedTransformerConfig(
            n_layers=2, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=64, d_vocab=50,
            act_fn="gelu", seed=0,
        )
    ).eval()  # fmt: skip


def bridge() -> nn.Module:
    from transformer_lens.config import TransformerBridgeConfig  # pyright: ignore[reportMissingImports]
    from transformer_lens.model_bridge import TransformerBridge  # pyright: ignore[reportMissingImports]

    return TransformerBridge.boot_native(
        TransformerBridgeConfig(
            n_layers=2, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=64, d_vocab=50,
            act_fn="gelu", seed=0,
        )
    ).eval()  # fmt: skip


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_heads_of_transformer_lens_are_those_of_its_own_hook_points():
    if find_spec("transformer_lens") is None:
        pytest.skip("transformer_lens is not in this environment: make test-peers")
    version = importlib.metadata.version("transformer-lens")
    model = cast("Any", hooked_transformer() if version.startswith("3.") else bridge())
    sites = {part: f"blocks.1.attn.heads.{part}" for part in PARTS}
    with torch.no_grad(), capture(model, list(sites.values())) as seen:
        model(IDS)
    _, cache = model.run_with_cache(IDS)
    for part, site in sites.items():
        theirs = cache[f"blocks.1.attn.hook_{part}"]
        assert torch.equal(seen[site].reshape(theirs.shape), theirs), part
    for way in (splice(model, {sites["pattern"]: torch.zeros_like}), ablate(model, [sites["v"]])):
        with torch.no_grad(), way:
            with capture(model, [sites["z"]]) as seen:
                model(IDS)
            assert not seen[sites["z"]].any()
    pairs = TextPairs(
        clean=IDS, corrupt=IDS.flip(1), right=((1,), (2,)), wrong=((3,), (4,)), tokens=("a",) * 7
    )
    found = trace(LoadedModel(module=model, name="peer"), pairs, ["blocks.0.attn.heads.z"])
    clean = cache["blocks.0.attn.hook_z"]
    for position in range(7):

        def patch(own: Tensor, hook: object, at: int = position) -> Tensor:
            own = own.clone()
            own[:, at] = clean[:, at].reshape(own[:, at].shape)
            return own

        with torch.no_grad():
            logits = model.run_with_hooks(
                pairs.corrupt, fwd_hooks=[("blocks.0.attn.hook_z", patch)]
            )[:, -1]
        wanted = (logits[0, 1] - logits[0, 3] + logits[1, 2] - logits[1, 4]) / 2
        assert found.values[0, position] == pytest.approx(float(wanted), rel=1e-4, abs=1e-6)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_heads_within_a_trace_of_nnsight_are_those_of_the_model_inside():
    if find_spec("nnsight") is None:
        pytest.skip("nnsight is not in this environment: make test-peers")
    from nnsight import NNsight  # pyright: ignore[reportMissingImports]

    model = family("gpt2")
    wrapped, path = NNsight(model), "transformer.h.1.attn"
    sites = [f"{path}.heads.{part}" for part in PARTS]
    with torch.no_grad(), capture(model, sites) as plain:
        model(IDS)
    with torch.no_grad(), capture(model, sites) as seen, wrapped.trace(input_ids=IDS):
        given = wrapped.transformer.h[1].attn.output.save()
    assert torch.equal(given[1], seen[sites[4]])
    for site in sites:
        assert torch.equal(seen[site], plain[site])
    for way in (splice(model, {sites[4]: torch.zeros_like}), ablate(model, [sites[2]])):
        with torch.no_grad(), way, wrapped.trace(input_ids=IDS):
            mixed = wrapped.transformer.h[1].attn.c_proj.input.save()
        assert not mixed.any()
