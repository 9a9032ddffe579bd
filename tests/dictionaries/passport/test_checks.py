"""A passport lets the same pass, descended with a caution, and refuses others by name."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
import torch
from tests.dictionaries.live.planted import KINDS, WIDTH
from tests.dictionaries.live.tiny_gpt import IDS, SITE, generate, tiny_gpt
from tests.dictionaries.passport.passports import passport_of, random_dictionary, recording_spec
from torch import Tensor, nn

from isogloss.dictionaries import (
    DictionaryModule,
    Passport,
    SparseDictionary,
    check_live_site,
    check_model,
    check_recording,
    check_rows,
    check_site,
    check_weights,
)
from isogloss.errors import PassportRefused
from isogloss.models import LoadedModel

WITH_BEGIN = torch.cat([torch.zeros(2, 1, dtype=torch.int64), IDS], dim=1)


def module_of(**known: object) -> DictionaryModule:
    made = random_dictionary()
    return DictionaryModule(made, passport_of(made, **known))


def parts(refused: pytest.ExceptionInfo[PassportRefused]) -> str:
    return str(refused.value).rpartition("allow=")[2]


def test_the_model_and_site_of_the_training_are_spliced_without_a_word() -> None:
    with module_of().spliced(tiny_gpt(), ablate=[1]) as result:  # the site is known
        assert (result.answer, result.cautions) == ("same", ())


def test_a_descended_model_is_spliced_with_a_caution() -> None:
    model = tiny_gpt()
    with torch.no_grad():
        model.get_parameter("transformer.h.1.mlp.c_fc.weight").add_(1e-3)
    with module_of().spliced(model, SITE) as result:
        assert result.answer == "descended"
        assert "descended" in result.cautions[0]


def test_another_model_or_site_is_refused_by_name_and_may_be_allowed() -> None:
    module, other = module_of(), tiny_gpt(1)
    with pytest.raises(PassportRefused, match="the model is not tiny") as refused:  # noqa: SIM117
        with module.spliced(other, SITE):
            pass
    assert parts(refused) == "['model']"
    with pytest.raises(PassportRefused, match=r"h\.1.*trained on.*h\.0") as refused:  # noqa: SIM117
        with module.spliced(other, "transformer.h.1"):
            pass
    assert parts(refused) == "['model', 'site']"
    with module.spliced(other, "transformer.h.1", allow=["model", "site"]) as result:
        assert result.answer == "other"
        assert len(result.cautions) == 2
    assert module.check(other, SITE).answer == "other"
    assert module.check(tiny_gpt(), SITE).answer == "same"
    assert module.check(LoadedModel(module=other, name="a"), SITE).answer == "other"
    assert module.check(LoadedModel(module=tiny_gpt(), name="b"), SITE[12:]).answer == "same"


def test_texts_without_their_beginning_are_refused_in_the_first_pass() -> None:
    module, model = module_of(), tiny_gpt()
    with pytest.raises(PassportRefused, match="begin") as refused, module.spliced(model):
        model(IDS)
    assert parts(refused) == "['begin']"
    with module.spliced(model, allow=["begin"]):
        model(IDS)
    with module.spliced(model), torch.no_grad():
        generate(model, WITH_BEGIN, 3)
        model(IDS)  # the first pass told
    padded = torch.tensor([[9, 9, 0, 1], [0, 1, 2, 3]])
    with module.spliced(model):
        model(padded)
    with module_of(begins="").spliced(model), torch.no_grad():
        model(IDS)
    with module.spliced(model), torch.no_grad():  # a text that began elsewhere goes on
        model(torch.tensor([[5], [6]]))


def test_a_few_rows_are_not_compared_in_scale_and_enough_of_them_are_later() -> None:
    model = tiny_gpt()
    with torch.no_grad(), module_of(norms=(1e-3,)).spliced(model):
        model(WITH_BEGIN[:1, :3])
        with pytest.raises(PassportRefused, match="median norm"):
            model(WITH_BEGIN)


def test_rows_of_another_scale_are_refused_in_the_first_pass() -> None:
    model = tiny_gpt()
    seen: list[Tensor] = []
    layer = model.get_submodule(SITE)

    def look(module: object, args: object, output: object) -> None:
        found = cast("tuple[object]", output)[0] if isinstance(output, tuple) else output
        assert isinstance(found, Tensor)
        seen.append(found)

    handle = layer.register_forward_hook(look)
    model(WITH_BEGIN)
    handle.remove()
    norm = float(seen[0].detach().norm(dim=-1).median())
    with module_of(norms=(norm,)).spliced(model):
        model(WITH_BEGIN)
    for factor in (0.3, 3.0):
        module = module_of(norms=(norm * factor,))
        with pytest.raises(PassportRefused, match="median norm") as refused, module.spliced(model):
            model(WITH_BEGIN)
        assert parts(refused) == "['scaling']"
        with pytest.raises(PassportRefused, match="median norm"):
            module.encode(seen[0], model=model, site=SITE)
        module.encode(seen[0], model=model, allow=["scaling"])
    assert check_rows(module.passport or Passport(), torch.zeros(0, WIDTH)).answer == "same"


def test_a_recording_is_compared_by_what_it_says_of_itself() -> None:
    passport = passport_of(random_dictionary())
    assert check_recording(passport, recording_spec(), [SITE]).answer == "same"
    assert check_recording(passport, recording_spec(begins=None), [SITE]).answer == "same"
    for spec, site, part in (
        (recording_spec(1), SITE, "model"),
        (recording_spec(site="transformer.h.1"), "transformer.h.1", "site"),
        (recording_spec(begins=""), SITE, "begin"),
        (replace(recording_spec(), tokenizer="others"), SITE, "tokenizer"),
    ):
        found = check_recording(passport, spec, [site])
        assert [one.part for one in found.differences] == [part]
    for name in (f"model.{SITE}", SITE.removeprefix("transformer.")):  # the same, of another head
        assert check_recording(passport, recording_spec(site=name), [name]).answer == "same"
    unknown = replace(recording_spec(), model=replace(recording_spec().model, ancestry={}))
    assert "not checked" in check_recording(passport, unknown, [SITE]).cautions[0]


def changed(made: SparseDictionary, **tensors: Tensor) -> SparseDictionary:
    return replace(made, tensors={**made.tensors, **tensors})


LOST: dict[str, tuple[str, Callable[[SparseDictionary], SparseDictionary]]] = {
    "threshold": ("jumprelu", lambda d: changed(d, threshold=torch.zeros(40))),
    "activation": (
        "jumprelu",
        lambda d: SparseDictionary.make(
            "relu_l1",
            {"features": 40},
            {n: t for n, t in d.tensors.items() if n != "threshold"},
            d.provenance,
        ),
    ),
    "k": ("topk", lambda d: replace(d, settings=replace(d.settings, k=6))),
    "transposed": ("topk", lambda d: changed(d, decoder=d.decoder.T.reshape(40, 12).contiguous())),
    "reordered": ("topk", lambda d: changed(d, decoder=d.decoder.flip(0))),
    "another scale": ("gated", lambda d: changed(d, encoder_bias=d.tensors["encoder_bias"] * 3)),
}


@pytest.mark.parametrize("what", list(LOST))
def test_a_dictionary_that_lost_something_on_the_way_is_refused(what: str) -> None:
    kind, lose = LOST[what]
    made = random_dictionary(kind)
    found = check_weights(passport_of(made), lose(made))
    assert found.answer == "other"
    with pytest.raises(PassportRefused, match="the dictionary is not for this"):
        found.require()


def test_a_module_is_made_of_the_weights_of_its_passport_or_says_what_differs() -> None:
    made = random_dictionary()
    edited = replace(made, settings=replace(made.settings, k=6))
    with pytest.raises(PassportRefused, match=r"k is 6, the passport says 5") as refused:
        DictionaryModule(edited, passport_of(made))
    assert parts(refused) == "['activation']"
    module = DictionaryModule(edited, passport_of(made), allow=["activation"])
    with module.spliced(tiny_gpt(), SITE) as result:
        assert result.answer == "same"
        assert result.cautions == ("allowed to differ: k is 6, the passport says 5",)
    assert module.check(tiny_gpt(), SITE).cautions == result.cautions


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_is_itself_also_after_a_cast_and_back(kind: str) -> None:
    made = random_dictionary(kind)
    half = {name: tensor.bfloat16().float() for name, tensor in made.tensors.items()}
    for here in (made, copy.deepcopy(made), replace(made, tensors=half)):
        assert check_weights(passport_of(made), here).answer == "same"


def test_a_place_that_only_reads_like_the_site_is_another_where_the_model_has_both() -> None:
    model = nn.ModuleDict({"left": nn.ModuleDict({"linear": nn.Linear(2, 2)})})
    passport = Passport(sites=("left.linear",))
    assert check_live_site(passport, model, ["linear"]).answer == "same"  # no other may be meant
    assert check_live_site(passport, model, ["module.left.linear"]).answer == "same"
    model["linear"] = nn.Linear(2, 2)
    found = check_live_site(passport, model, ["linear"])
    assert [one.part for one in found.differences] == ["site"]
    assert check_live_site(passport, model, ["left.linear"]).answer == "same"
    assert check_live_site(passport, model, ["left.linear"] * 2).answer == "other"


def test_what_a_passport_does_not_know_is_not_checked_and_that_is_said() -> None:
    empty = Passport()
    assert check_model(empty, tiny_gpt()).cautions
    assert check_site(empty, ["x"]).answer == "same"
    assert check_weights(empty, random_dictionary()).answer == "same"
    module = DictionaryModule(random_dictionary())
    with module.spliced(tiny_gpt(), SITE) as result:
        assert "no passport" in result.cautions[0]
    assert "no passport" in module.check(tiny_gpt()).cautions[0]
