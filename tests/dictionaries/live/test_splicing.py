import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.dictionaries.live.planted import KINDS, WIDTH, random_dictionary
from tests.dictionaries.live.tiny_gpt import IDS, SITE, generate, tiny_gpt
from torch import Tensor, nn

from isogloss.dictionaries import DictionaryModule
from isogloss.dictionaries.live.rewriting import Edits, _pairs
from isogloss.errors import InvalidInput, ShapeError, UnknownSite
from isogloss.models import LoadedModel

Hook = Callable[[nn.Module, object, object], object]
STEER, ABLATE = {7: -1.5, 3: 4.0}, [5, 2]


def module_of(kind: str = "topk", *, transcodes: bool = False, seed: int = 0) -> DictionaryModule:
    return DictionaryModule(random_dictionary(kind, transcodes=transcodes, seed=seed))


def by_hand(module: DictionaryModule, steer: dict[int, float], *, keep: bool = True) -> Hook:
    """A forward hook as people write one."""

    def hook(layer: nn.Module, args: object, output: object) -> object:
        x = output[0] if isinstance(output, tuple) else output
        assert isinstance(x, Tensor)
        codes = module.dense(x.float())
        features = torch.tensor(list(steer))
        wanted = torch.tensor(list(steer.values()))
        if keep:
            delta = (wanted - codes[..., features]) @ module.get_parameter("decoder")[features]
            new = (x.float() + delta).to(x.dtype)
        else:
            codes[..., features] = wanted
            new = module.decode(codes).to(x.dtype)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return hook


def hooked(model: nn.Module, hook: Hook, run: Callable[[], Tensor]) -> Tensor:
    handle = model.get_submodule(SITE).register_forward_hook(hook)
    try:
        return run()
    finally:
        handle.remove()


def hooks_of(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(child, kind)) for child in model.modules() for kind in kinds)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_splice_gives_what_a_hook_by_hand_gives_generation_included(kind: str) -> None:
    model, module = tiny_gpt(), module_of(kind)
    edits = dict(sorted({**dict.fromkeys(ABLATE, 0.0), **STEER}.items()))

    def logits() -> Tensor:
        return model(IDS).logits

    def tokens() -> Tensor:
        return generate(model, IDS, 8)

    for run in (logits, tokens):
        plain, wanted = run(), hooked(model, by_hand(module, edits), run)
        with module.spliced(model, SITE, steer=STEER, ablate=ABLATE):
            torch.testing.assert_close(run(), wanted, rtol=0, atol=0)
        assert not torch.equal(plain, wanted)
        torch.testing.assert_close(run(), plain, rtol=0, atol=0)
    assert hooks_of(model) == 0


@torch.no_grad()
def test_without_the_error_the_site_holds_what_the_features_stand_for() -> None:
    model, module = tiny_gpt(), module_of("jumprelu")
    wanted = hooked(model, by_hand(module, STEER, keep=False), lambda: model(IDS).logits)
    with module.spliced(model, SITE, steer=STEER, keep_error=False):
        torch.testing.assert_close(model(IDS).logits, wanted)
    seen: list[Tensor] = []
    with module.spliced(model, SITE, keep_error=False):
        layer = model.get_submodule(SITE)
        handle = layer.register_forward_hook(lambda m, a, out: seen.append(first(out)))
        model(IDS)
        handle.remove()
    plain: list[Tensor] = []
    handle = layer.register_forward_hook(lambda m, a, out: plain.append(first(out)))
    model(IDS)
    handle.remove()
    torch.testing.assert_close(seen[0], module(plain[0]), rtol=0, atol=0)


def first(output: object) -> Tensor:
    found = output[0] if isinstance(output, tuple) else output
    assert isinstance(found, Tensor)
    return found


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_nothing_is_set_every_bit_stays(dtype: torch.dtype) -> None:
    model, module = tiny_gpt().to(dtype=dtype), module_of()
    plain = model(IDS).logits
    with module.spliced(model, SITE):
        torch.testing.assert_close(model(IDS).logits, plain, rtol=0, atol=0)
    with module.spliced(model, SITE, ablate=[5]):
        assert model(IDS).logits.dtype == dtype


def test_gradients_reach_the_embedding_and_the_dictionary() -> None:
    model, module = tiny_gpt(), module_of()
    with module.spliced(model, SITE, keep_error=False):
        model(IDS).logits.square().sum().backward()
    table = model.get_parameter("transformer.wte.weight").grad
    assert table is not None
    assert table[1:9].abs().sum(1).min() > 0
    grad = module.get_parameter("encoder").grad
    assert grad is not None
    assert grad.abs().sum() > 0


def test_after_any_exception_the_model_is_as_before() -> None:
    model, module = tiny_gpt(), module_of()
    plain = model(IDS).logits

    class Own(BaseException):
        pass

    def fail(layer: nn.Module, args: object) -> None:
        raise Own

    handle = model.get_submodule("transformer.h.1").register_forward_pre_hook(fail)
    with pytest.raises(Own), module.spliced(model, SITE, steer=STEER):
        model(IDS)
    handle.remove()
    with pytest.raises(ZeroDivisionError), module.spliced(model, SITE, steer=STEER):
        raise ZeroDivisionError
    with pytest.raises(UnknownSite, match=r"transformer\.h"):  # noqa: SIM117
        with module.spliced(model, "transformer.h.9"):
            pass
    assert hooks_of(model) == 0
    torch.testing.assert_close(model(IDS).logits, plain, rtol=0, atol=0)


@torch.no_grad()
def test_splices_nest_at_one_site_and_stand_at_two() -> None:
    model, one, two = tiny_gpt(), module_of(), module_of(seed=4)
    other = "transformer.h.1"
    with one.spliced(model, SITE, steer={3: 2.0}), two.spliced(model, SITE, ablate=[0]):
        twice = model(IDS).logits
    handle = model.get_submodule(SITE).register_forward_hook(by_hand(one, {3: 2.0}))
    wanted = hooked(model, by_hand(two, {0: 0.0}), lambda: model(IDS).logits)
    handle.remove()
    torch.testing.assert_close(twice, wanted, rtol=0, atol=0)
    with one.spliced(model, SITE, steer={3: 2.0}), one.spliced(model, other, steer={3: 2.0}):
        both = model(IDS).logits
    with one.spliced(model, SITE, steer={3: 2.0}):
        assert not torch.equal(model(IDS).logits, both)


@torch.no_grad()
def test_a_transcoder_reads_one_site_and_rewrites_another() -> None:
    layers = nn.Sequential(nn.Linear(5, WIDTH), nn.Linear(WIDTH, 7), nn.Linear(7, 7))
    module, given = module_of(transcodes=True), torch.randn(2, 3, 5)
    read = layers[0](given)
    with module.spliced(layers, ["0", "1"], keep_error=False):
        torch.testing.assert_close(layers(given), layers[2](module(read)))
    old = layers[1](read)
    change = (2.0 - module.dense(read)[..., 3:4]) * module.get_parameter("decoder")[3]
    with module.spliced(layers, ["0", "1"], steer={3: 2.0}):
        torch.testing.assert_close(layers(given), layers[2](old + change))
    with pytest.raises(InvalidInput, match="first the site to read"):  # noqa: SIM117
        with module.spliced(layers, ["2", "1"], steer={3: 2.0}):
            layers(given)


class Meeting(nn.Module):
    """Where two threads wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2, timeout=30)

    def forward(self, x: Tensor) -> Tensor:
        self.barrier.wait()
        return x


def test_threads_that_run_a_model_at_once_transcode_each_its_own_pass() -> None:
    layers = nn.Sequential(nn.Linear(5, WIDTH), Meeting(), nn.Linear(WIDTH, 7), Meeting())
    module, found = module_of(transcodes=True), dict[int, Tensor]()
    given = [torch.randn(3, 5), torch.randn(4, 5)]

    def run(number: int) -> None:
        with torch.no_grad():
            found[number] = layers(given[number])

    with module.spliced(layers, ["0", "2"], keep_error=False):
        threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with torch.no_grad():
        for number in (0, 1):
            torch.testing.assert_close(found[number], module(layers[0](given[number])))


@torch.no_grad()
@pytest.mark.parametrize("keep", [True, False])
def test_under_autocast_the_same_features_fire_as_in_full_precision(keep: bool) -> None:
    layers, module = nn.Sequential(nn.Linear(WIDTH, WIDTH)), module_of("jumprelu")
    given = torch.randn(64, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = layers(given)
        with module.spliced(layers, "0", steer={3: 2.0}, keep_error=keep):
            found = layers(given)
    dense = module.dense(plain.float())
    change = (2.0 - dense[:, 3:4]) @ module.get_parameter("decoder")[3:4]
    wanted = (plain.float() if keep else module.decode(dense)) + change
    assert plain.dtype == found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted.bfloat16())


def test_a_model_in_training_stays_in_training_and_is_spliced_alike() -> None:
    model, module = tiny_gpt().train(), module_of()
    torch.manual_seed(3)
    wanted = hooked(model, by_hand(module, {3: 2.0}), lambda: model(IDS).logits)
    torch.manual_seed(3)
    with module.spliced(model, SITE, steer={3: 2.0}):
        found = model(IDS).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert all(child.training for child in model.modules())
    assert not module.get_parameter("decoder").grad


@torch.no_grad()
def test_a_site_of_heads_is_rewritten_over_all_of_them() -> None:
    class Heads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(*x.shape[:-1], 3, 4)

    layers, module, given = nn.Sequential(Heads()), module_of(), torch.randn(2, 5, WIDTH)
    with module.spliced(layers, "0", keep_error=False):
        torch.testing.assert_close(layers(given), module(given).reshape(2, 5, 3, 4))


@torch.no_grad()
def test_a_compiled_model_is_spliced_and_compiled_afterwards() -> None:
    model, module = tiny_gpt(), module_of()
    compiled = torch.compile(model, backend="eager")
    plain = compiled(IDS).logits
    with module.spliced(model, SITE, steer=STEER):
        wanted = model(IDS).logits
    with module.spliced(compiled, SITE, steer=STEER):
        torch.testing.assert_close(compiled(IDS).logits, wanted, rtol=0, atol=0)
    torch.testing.assert_close(compiled(IDS).logits, plain, rtol=0, atol=0)


@torch.inference_mode()
def test_it_works_under_inference_mode_and_on_no_rows() -> None:
    model, module = tiny_gpt(), module_of()
    with module.spliced(model, SITE, steer=STEER):
        assert model(IDS).logits.shape == (2, 4, 50)
    layers = nn.Sequential(nn.Linear(WIDTH, WIDTH))
    with module.spliced(layers, "0", steer=STEER, keep_error=False):
        assert layers(torch.zeros(0, WIDTH)).shape == (0, WIDTH)


BAD: dict[str, dict[str, object]] = {
    r"\[40\] are not in \[0, 40\)": {"ablate": [40]},
    r"\[-1\] are not in": {"steer": {-1: 1.0}},
    "named twice": {"ablate": [3, 3]},
    r"\[3\] are named twice": {"ablate": [3], "steer": {3: 1.0}},
    "finite": {"steer": {3: float("nan")}},
}


@pytest.mark.parametrize("message", list(BAD))
def test_edits_that_cannot_be_are_refused_before_a_hook_is_set(message: str) -> None:
    given = {"ablate": [], "steer": {}, **BAD[message]}
    with pytest.raises(InvalidInput, match=message):
        Edits.of(given["ablate"], given["steer"], 40)  # type: ignore[arg-type]


def test_what_is_no_feature_or_number_is_refused_in_words() -> None:
    for ablate, steer, message in (
        ([1.5], {}, "features are whole numbers"),
        ([], {"7": 1.0}, "features are whole numbers"),
        ([], {3: "much"}, "set to numbers"),
        (7, {}, r"ablate=\[3\]"),
        ([], [3], "give a mapping"),
    ):
        with pytest.raises(InvalidInput, match=message):
            _pairs(ablate, steer)
    assert _pairs([np.int64(3)], {torch.tensor(4): torch.tensor(2.0)}) == [(3, 0.0), (4, 2.0)]


def test_sites_that_do_not_fit_are_refused() -> None:
    model, module = tiny_gpt(), module_of()
    for site in (None, [], ["transformer.h.0", "transformer.h.1"], "transformer.h.*"):
        with pytest.raises(InvalidInput, match="this dictionary wants 1"):  # noqa: SIM117
            with module.spliced(model, site):
                pass
    with pytest.raises(ShapeError, match="width 12"), module.spliced(model, "lm_head", ablate=[1]):
        model(IDS)
    layers = nn.Sequential(nn.Identity())
    with pytest.raises(ShapeError, match="int64"), module.spliced(layers, "0", ablate=[1]):
        layers(torch.zeros(2, WIDTH, dtype=torch.int64))


@torch.no_grad()
def test_what_load_model_gives_is_spliced_as_its_module() -> None:
    model, module = tiny_gpt(), module_of()
    loaded = LoadedModel(module=model, name="tiny")
    with module.spliced(model, SITE, steer=STEER):
        wanted = model(IDS).logits
    with module.spliced(loaded, SITE, steer=STEER):
        torch.testing.assert_close(model(IDS).logits, wanted, rtol=0, atol=0)
    assert hooks_of(model) == 0
    assert module.check(loaded, SITE) == module.check(model, SITE)
