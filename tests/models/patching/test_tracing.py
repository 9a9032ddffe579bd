"""Causal tracing beside loops of hooks written by hand."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.patching.tiny import CLEAN, CORRUPT, model, pairs
from torch import Tensor, nn

from isogloss.errors import InvalidInput, MissingExtra, ShapeError, UnknownSite
from isogloss.models import (
    Head,
    LoadedModel,
    TextPairs,
    attention_patterns,
    attribute,
    head_scores,
    indirect_object_pairs,
    load_model,
    score_edges,
    text_pairs,
)
from isogloss.models.patching import tracing
from isogloss.models.patching.metrics import METRICS
from isogloss.models.patching.tracing import finished, run_pairs, trace


def by_hand(logits: Tensor, clean: Tensor, metric: str) -> float:
    """The metric of the two pairs, written out."""
    one, two = torch.log_softmax(logits[0], 0), torch.log_softmax(logits[1], 0)
    if metric == "probability":
        return float((one[7].exp() + two[8].exp()) / 2)
    if metric == "kl":
        c = torch.log_softmax(clean, -1)
        return float((c.exp() * (c - torch.stack([one, two]))).sum() / 2)
    return float((one[7] - one[9] + two[8] - torch.logsumexp(two[[10, 12]], 0)) / 2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", ["denoise", "noise"])
def test_effects_are_those_of_a_loop_of_hooks_written_by_hand(metric: Any, mode: Any):
    module, layer = model().module, "model.layers.0"
    found = trace(model(), pairs(), [layer, f"{layer}.mlp"], metric=metric, mode=mode)
    base, donor = (CORRUPT, CLEAN) if mode == "denoise" else (CLEAN, CORRUPT)
    with torch.no_grad():
        clean = module(CLEAN).logits[:, -1]
        for i, path in enumerate(found.sites):
            target: nn.Module = module.get_submodule(path)
            kept: list[Any] = []

            def keep(_: nn.Module, __: object, out: Tensor, kept: list[Any] = kept) -> None:
                kept.append(out.clone())

            handle = target.register_forward_hook(keep)
            module(donor)
            handle.remove()
            for position in range(6):

                def patch(m: nn.Module, a: object, out: Tensor, k: Any = kept, p: int = position):
                    out = out.clone()
                    out[:, p] = k[0][:, p]
                    return out

                handle = target.register_forward_hook(patch)
                value = by_hand(module(base).logits[:, -1], clean, metric)
                handle.remove()
                assert found.values[i, position] == pytest.approx(value, rel=1e-6, abs=1e-9)
    start, end = (found.corrupt, found.clean) if mode == "denoise" else (found.clean, found.corrupt)
    np.testing.assert_allclose(found.effects, (found.values - start) / (end - start))


def test_all_positions_of_the_first_layer_bring_the_other_run_back():
    found = trace(model(), pairs(), ["model.embed_tokens", "layers.0"], positions="all")
    np.testing.assert_allclose(found.effects, 1, atol=1e-5)
    assert (found.positions, found.tokens) == ((-1,), ("all",))


def test_what_lies_before_the_changed_token_has_no_effect():
    found = trace(model(), pairs(), ["layers.0", "layers.1"])
    np.testing.assert_allclose(found.effects[:, 0], 0, atol=1e-6)
    assert abs(found.effects[0, 1]) > 1e-3
    np.testing.assert_allclose(found.effects[1, -1], 1, atol=1e-5)  # the last layer's last token


@pytest.mark.parametrize(
    "site", ["layers.0.attn.head.3", "layers.0.attn.heads.pattern", "layers.0.attn.head.1.pattern",
             "layers.0.self_attn.o_proj.input", "layers.1.attn.heads.q"]
)  # fmt: skip
def test_heads_and_patterns_are_traced_at_their_tokens(site: str):
    found = trace(model(), pairs(), [site], positions=[1, -1])
    assert found.positions == (1, 5)
    assert np.isfinite(found.effects).all()
    assert np.abs(found.effects).max() > 0


def test_one_head_is_patched_alone():
    both = trace(model(), pairs(), ["layers.0.attn.heads.z", "layers.0.attn.o_proj.input"])
    np.testing.assert_allclose(both.effects[0], both.effects[1])
    heads = [f"layers.0.attn.head.{head}" for head in range(4)]
    alone = trace(model(), pairs(), heads)
    assert len(np.unique(alone.effects.round(9), axis=0)) == 4
    assert not any(np.allclose(row, both.effects[0]) for row in alone.effects)


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: trace(model(), pairs(), ["layers.7"]), UnknownSite, "nearest"),
    (lambda: trace(model(), pairs(), ["layers.0.attn.head.9"]), InvalidInput, "no head 9"),
    (lambda: trace(model(), pairs(), []), InvalidInput, "no site was given"),
    (lambda: trace(model(), pairs(), ["layers.0"], positions=[6]), InvalidInput, "6 tokens"),
    (lambda: trace(model(), pairs(), ["layers.0"], positions=[1, -5]), InvalidInput, "once"),
    (lambda: trace(model(), pairs(), ["layers.0"], positions=[]), InvalidInput, "'each'"),
    (lambda: trace(model("bert"), pairs(), ["encoder.layer.0"]), InvalidInput, "causal=True"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "said"), BAD)
def test_what_cannot_be_traced_is_refused(
    call: Callable[[], object], error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        call()


def test_an_unknown_setting_is_refused():
    unchecked: Any = getattr(trace, "__wrapped__", trace)  # beartype is for tests alone
    for setting in ({"metric": "loss"}, {"mode": "swap"}):
        with pytest.raises(Exception, match=next(iter(setting))):
            unchecked(model(), pairs(), ["layers.0"], **setting)


def long() -> TextPairs:
    ids = pairs().clean.repeat(1, 10)
    return replace(pairs(), clean=ids, corrupt=ids + 1)


@pytest.mark.parametrize("at", [1.0, True, "1", None])
def test_positions_are_whole_numbers(at: Any):
    unchecked: Any = getattr(tracing._columns, "__wrapped__", tracing._columns)
    with pytest.raises(InvalidInput, match="no whole numbers"):
        unchecked([at], 6)
    found = trace(model(), pairs(), ["layers.0"], positions=np.array([1, -1]).tolist())
    assert found.positions == (1, 5)


def beyond(name: str) -> TextPairs:
    """Pairs with a token that the model, of 50, does not have."""
    known = pairs()
    if name in ("right", "wrong"):
        return replace(known, **{name: ((50,), (8,))})
    ids = getattr(known, name).clone()
    ids[1, 2] = 50
    return replace(known, **{name: ids})


BEFORE_ANY_PASS: list[tuple[Callable[[LoadedModel], object], type[Exception], str]] = [
    (lambda m: trace(m, pairs(), ["h.7"]), UnknownSite, "nearest"),
    (lambda m: attribute(m, pairs(), ["h.7"]), UnknownSite, "nearest"),
    (lambda m: trace(m, pairs(), ["h.0.attn.head.9"]), InvalidInput, "no head 9"),
    (lambda m: attribute(m, pairs(), ["h.0.attn.head.9"]), InvalidInput, "no head 9"),
    (lambda m: trace(m, pairs(), ["h.0.mlp.heads.q"]), InvalidInput, "no attention module"),
    (lambda m: attention_patterns(m, [1, 2], [Head(layer=0, head=9)]), InvalidInput, "heads 0 to"),
    (lambda m: attention_patterns(m, "text"), InvalidInput, "no tokenizer"),
    (lambda m: attention_patterns(m, [1] * 40), InvalidInput, "40 tokens, the model reads 32"),
    (lambda m: head_scores(m, torch.ones(2, 40).long()), InvalidInput, "40 tokens, the model"),
    (lambda m: text_pairs(m, [[1, 2]], [[1, 2, 3]], [1], [2]), InvalidInput, "3 tokens"),
    (lambda m: indirect_object_pairs(m, 2), InvalidInput, "no tokenizer"),
    (lambda m: trace(m, long(), ["h.0"]), InvalidInput, "60 tokens, the model reads 32"),
    (lambda m: attribute(m, long(), ["h.0"]), InvalidInput, "60 tokens, the model reads 32"),
    (lambda m: score_edges(m, long()), InvalidInput, "60 tokens, the model reads 32"),
    (lambda m: trace(m, pairs(), ["h.0"], positions=[6]), InvalidInput, "6 tokens"),
    (lambda m: trace(m, pairs(), ["h.0", "h.0"]), InvalidInput, "named twice"),
    (lambda m: trace(m, pairs(), ["h.0", "transformer.h.0"]), InvalidInput, "are one place"),
    (lambda m: attribute(m, pairs(), ["h.0.attn.head.1", "h.0.attn.head.1.z"]), InvalidInput,
     "are one place"),
    *((lambda m, bad=bad: trace(m, bad, ["h.0"]), InvalidInput, "token id 50 is not in the model")
      for bad in map(beyond, ("clean", "corrupt", "right", "wrong"))),
    *((lambda m, bad=bad: score_edges(m, bad), InvalidInput, "token id 50 is not in the model's")
      for bad in map(beyond, ("clean", "corrupt", "right", "wrong"))),
    (lambda m: head_scores(m, torch.full((2, 9), 50)), InvalidInput, "token id 50 is not in"),
    (lambda m: head_scores(m, torch.full((2, 9), -1)), InvalidInput, "token id -1 is not in"),
    (lambda m: head_scores(m, torch.ones(2, 9)), InvalidInput, "wanted whole numbers"),
    (lambda m: attention_patterns(m, [1, 2], [Head(layer=0, head=1)] * 2), InvalidInput,
     "heads 0.1 are named twice"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "said"), BEFORE_ANY_PASS)
def test_bad_input_is_refused_before_any_pass(
    call: Callable[[LoadedModel], object], error: type[Exception], said: str
):
    tiny, passes = model("gpt2"), list[object]()

    def note(module: nn.Module, given: object) -> None:
        passes.append(given)

    handle = tiny.module.register_forward_pre_hook(note)
    try:
        with pytest.raises(error, match=said):
            call(tiny)
        assert not passes
        tiny.module(pairs().clean)
        assert len(passes) == 1  # so a pass would have been seen
    finally:
        handle.remove()


def test_numbers_that_are_not_finite_are_refused_and_no_hook_stays():
    tiny = LoadedModel(module=deepcopy(model("gpt2").module), name="tiny")
    with torch.no_grad():
        tiny.module.get_parameter("transformer.h.1.mlp.c_fc.bias")[0] = torch.nan
    with pytest.raises(InvalidInput, match="nan"):
        trace(tiny, pairs(), ["h.0"])
    with torch.no_grad():
        tiny.module.get_parameter("transformer.h.0.ln_1.bias")[0] = torch.nan
    ids = torch.tensor([[1, 2, 3]])
    for call in (lambda: attention_patterns(tiny, [1, 2, 3]), lambda: head_scores(tiny, ids)):
        with pytest.raises(InvalidInput, match="not finite"):
            call()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny.module.modules())


def test_what_overflows_where_it_is_patched_is_named():
    runs = run_pairs(
        model("gpt2"), pairs(), ["h.0"], positions="each", metric="logit_difference", mode="noise"
    )
    values = np.zeros((1, 6))
    values[0, 2] = np.inf
    with pytest.raises(InvalidInput, match=r"not finite where 'h\.0' is patched"):
        finished(
            model("gpt2"), pairs(), runs, values,
            sites=["h.0"], metric="logit_difference", mode="noise",
        )  # fmt: skip


def test_a_model_that_tells_no_difference_is_refused():
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Embedding(50, 50)

        def forward(self, ids: Tensor) -> Tensor:
            return self.layer(ids) * 0

    with pytest.raises(InvalidInput, match="tells no difference between them"):
        trace(LoadedModel(module=Same(), name="same"), pairs(), ["layer"])


def test_a_site_without_a_row_for_each_token_is_refused():
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.pool = nn.Embedding(50, 50), nn.Identity()

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            return x + self.pool(x.mean(1, keepdim=True))

    with pytest.raises(ShapeError, match="axis 1 is not theirs"):
        trace(LoadedModel(module=Pooled(), name="pooled"), pairs(), ["pool"])


@pytest.mark.slow
def test_on_indirect_objects_the_fact_moves_from_the_changed_token_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ISOGLOSS_CACHE", os.environ.get("ISOGLOSS_TEST_CACHE", str(tmp_path)))
    try:
        smollm2 = load_model("packaged:smollm2-135m", causal=True)
    except MissingExtra as error:
        pytest.skip(str(error))
    some = indirect_object_pairs(smollm2, 4)
    (changed,) = some.changed
    sites = [f"layers.{layer}" for layer in (8, 16, 20, 24, 28)]
    found = trace(smollm2, some, sites, positions=[changed, -1])
    at_changed, at_last = found.effects.T
    assert min(at_changed[:2]) > 0.9 > 0.1 > max(at_last[:2])
    assert min(at_last[3:]) > 0.7 > 0.3 > max(at_changed[3:])
    assert 0.1 < at_last[2] < 0.9
