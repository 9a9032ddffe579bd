"""Names and globs of sites, and their widths."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput, UnknownSite
from isogloss.models import Site, load_model, resolve_sites
from isogloss.models.testing import SiteContract, SiteSubject


class HookPoint(nn.Identity):
    """A named place in the forward pass, as TransformerLens makes them."""


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.hook_resid_pre = HookPoint()
        self.hook_z = HookPoint()
        inner = 2 * width
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.hook_resid_post = HookPoint()

    def forward(self, x: Tensor) -> Tensor:
        x = self.hook_resid_pre(x)
        heads = self.hook_z(x.unflatten(-1, (2, -1)))
        return self.hook_resid_post(heads.flatten(-2) + self.mlp(x))


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(Block(6) for _ in range(12))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=(1, 2))


TOKENS = torch.zeros(1, 3, dtype=torch.int64)


def subject_of(module: nn.Module, argument: str, site: Site, pattern: str) -> SiteSubject:
    tokens = torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(3))
    return SiteSubject(module=module, inputs={argument: tokens}, site=site, pattern=pattern)


class TestTinyBert(SiteContract):
    @pytest.fixture
    def subject(self, tiny_bert: Path) -> SiteSubject:
        site = Site(name="encoder.layer.1", width=32)
        module = load_model(str(tiny_bert)).module
        return subject_of(module, "input_ids", site, "encoder.layer.*")


class TestTinyGpt2(SiteContract):
    @pytest.fixture
    def subject(self, tiny_gpt2: Path) -> SiteSubject:
        site = Site(name="h.0.mlp.c_fc", width=96)
        return subject_of(load_model(str(tiny_gpt2)).module, "input_ids", site, "h.*.**.c_fc")


class TestHookPointOfAPlainModule(SiteContract):
    """TransformerLens names places in the forward pass by such submodules."""

    @pytest.fixture
    def subject(self) -> SiteSubject:
        torch.manual_seed(0)
        site = Site(name="blocks.3.hook_resid_post", width=6)
        return subject_of(Hooked(), "tokens", site, "blocks.?.hook_resid_post")


class TestSiteOfSeveralDimensions(SiteContract):
    """Heads and their dimensions make the width together."""

    @pytest.fixture
    def subject(self) -> SiteSubject:
        torch.manual_seed(0)
        return subject_of(Hooked(), "tokens", Site(name="blocks.0.hook_z", width=6), "**.hook_z")


def test_a_star_stays_in_one_component_and_keeps_the_modules_order():
    names = [s.name for s in resolve_sites(Hooked(), ["blocks.*"], example=TOKENS)]
    assert names == [f"blocks.{i}" for i in range(12)]


def test_two_stars_cross_dots():
    names = [s.name for s in resolve_sites(Hooked(), ["**.hook_z"], example=TOKENS)]
    assert names == [f"blocks.{i}.hook_z" for i in range(12)]


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [("blocks.[13]", [1, 3]), ("blocks.[!1-9]", [0]), ("blocks.1?", [10, 11])],
)
def test_sets_and_question_marks_work_as_in_a_shell(pattern: str, layers: list[int]):
    found = resolve_sites(Hooked(), [pattern], example=TOKENS)
    assert [s.name for s in found] == [f"blocks.{i}" for i in layers]


def test_several_patterns_give_each_site_once_in_the_patterns_order():
    found = resolve_sites(Hooked(), ["blocks.2", "blocks.[0-2]", "embed"], example=TOKENS)
    assert [s.name for s in found] == ["blocks.2", "blocks.0", "blocks.1", "embed"]


def test_an_example_may_be_a_tensor_arguments_or_keywords():
    for example in (TOKENS, (TOKENS,), {"tokens": TOKENS}):
        assert resolve_sites(Hooked(), ["blocks.0"], example=example)[0].width == 6


def test_a_glob_without_match_is_an_unknown_site():
    with pytest.raises(UnknownSite, match=r"blocks\.\*\.hook_resid_mid.*nearest"):
        resolve_sites(Hooked(), ["blocks.*.hook_resid_mid"], example=TOKENS)


def test_a_name_like_nothing_lists_the_top_of_the_module():
    with pytest.raises(UnknownSite, match="nearest: embed, blocks"):
        resolve_sites(Hooked(), ["Q"], example=TOKENS)


def test_without_an_example_widths_come_from_the_submodules_own_attributes():
    found = resolve_sites(Hooked(), ["embed", "blocks.0.mlp", "blocks.0.mlp.0"])
    assert [s.width for s in found] == [6, 6, 12]


def test_a_width_that_cannot_be_told_asks_for_an_example():
    with pytest.raises(InvalidInput, match="pass example="):
        resolve_sites(Hooked(), ["blocks.0"])


def test_a_site_without_a_token_dimension_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    with pytest.raises(InvalidInput, match=r"\(2, 4\); wanted .*\[batch, tokens, width\]"):
        resolve_sites(model, ["1"], example=torch.zeros(2, 3, 2))


@pytest.mark.parametrize("sites", [[], ["embed", "embed"]])
def test_no_site_and_a_site_named_twice_are_refused(sites: list[str]):
    with pytest.raises(InvalidInput):
        resolve_sites(Hooked(), sites, example=TOKENS)


@pytest.mark.parametrize(("name", "width"), [("", 4), ("x", 0)])
def test_a_site_needs_a_name_and_a_width(name: str, width: int):
    with pytest.raises(InvalidInput):
        Site(name=name, width=width)


def test_a_transformers_model_needs_no_example(tiny_bert: Path):
    model = load_model(str(tiny_bert))
    found = resolve_sites(model.module, ["encoder.layer.*", "**.intermediate.dense"])
    assert [s.width for s in found] == [32] * 3 + [48] * 3
    assert found[1].name == "encoder.layer.1"


def test_a_model_with_a_head_is_asked_by_the_paths_of_its_base_and_by_its_own(tiny_gpt2: Path):
    model = load_model(str(tiny_gpt2), causal=True).module
    for name in ("h.1", "transformer.h.1"):
        assert resolve_sites(model, [name]) == (Site(name="transformer.h.1", width=24),)
    assert len(resolve_sites(model, ["h.*"])) == 2


def test_the_prefix_of_a_model_with_a_head_may_stay(tiny_gpt2: Path):
    model = load_model(str(tiny_gpt2))
    assert resolve_sites(model.module, ["transformer.h.1"]) == (Site(name="h.1", width=24),)
    assert len(resolve_sites(model.module, ["transformer.h.*"])) == 2
