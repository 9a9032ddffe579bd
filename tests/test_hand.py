"""What ``benchmarks/hand.py`` counts, on a few cases and small weights."""

from importlib.util import find_spec

import pytest
import torch
from hand_figures import passports, steering, weights, zoo
from hand_figures.planted import random_dictionary

from isogloss.dictionaries import DictionaryModule


def test_the_figures_plant_two_hundred_cases_of_either_sort() -> None:
    assert sum(count for count, _ in passports.REFUSED.values()) == 200
    counts = {what: count for what, (count, _) in passports.PASSED.items()}
    assert sum(counts.values()) == 200
    assert sum(counts.values()) - counts["as it is"] - counts["without its head"] == 120


def test_a_few_of_each_mismatch_are_refused_by_name() -> None:
    found = passports.passport_refused(0.05)
    assert found.holds, found.peers
    assert found.value == 14


def test_a_few_right_uses_of_each_sort_pass() -> None:
    uses = {what: use for what, (_, use) in passports.PASSED.items() if what != "compiled"}
    with passports._process_group():
        for what, use in uses.items():
            assert use(1) == "same", what


@pytest.mark.parametrize("family", sorted(zoo.FAMILIES))
def test_folding_keeps_the_logits(family: str) -> None:
    model = zoo.model_of(family, 3)
    with torch.no_grad():
        wanted, found = model(zoo.TEXT).logits, zoo.folded(model)(zoo.TEXT).logits
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_splice_is_a_hook_by_hand_on_hugging_face() -> None:
    module = DictionaryModule(random_dictionary("topk", 64, steering.WIDTH, 1))
    found = dict(steering.WAYS["huggingface"](module))
    assert found
    assert [what for what, is_so in found.items() if not is_so] == []


@pytest.mark.peers
@pytest.mark.parametrize("library", ["transformer-lens-3", "transformer-lens-4", "nnsight"])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_a_splice_is_a_hook_by_hand_on_other_libraries(library: str) -> None:
    package = "nnsight" if library == "nnsight" else "transformer_lens"
    if find_spec(package) is None:
        pytest.skip(f"{package} is not in this environment: make test-peers")
    try:
        module = DictionaryModule(random_dictionary("jumprelu", 64, steering.WIDTH, 1))
        found = dict(steering.WAYS[library](module))
    except ImportError:
        pytest.skip("this environment has the other version")
    assert [what for what, is_so in found.items() if not is_so] == []


def test_weights_are_measured_on_a_real_server() -> None:
    wire, memory = weights.weights(features=2048, width=64, rounds=2)
    assert wire.value is not None
    assert memory.value is not None, memory.peers
