# ruff: noqa: D102  (the name of a test is its sentence)
"""The contract of a site of any module, as tests to subclass.

Override the fixture :meth:`SiteContract.subject` in a class whose name begins with ``Test``::

    class TestTinyBert(SiteContract):
        @pytest.fixture
        def subject(self, tiny_bert: nn.Module) -> SiteSubject: ...
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from isogloss.errors import UnknownSite
from isogloss.models.elements.containers import first_tensor
from isogloss.models.hooks import capture, splice
from isogloss.models.resolve import resolve_sites
from isogloss.models.sites import Site


@dataclass(frozen=True, kw_only=True)
class SiteSubject:
    """A module, one of its sites, and an input."""

    module: nn.Module
    """Its output is a tensor, or a container with a tensor first, to which the site matters."""

    inputs: Mapping[str, Tensor]
    """Keyword arguments of one forward pass; the first is ``[batch, tokens]`` or wider."""

    site: Site
    """Path and width of a submodule."""

    pattern: str
    """A glob that names the site and at least one other submodule."""


class SiteContract:
    """Tests of the :class:`~isogloss.models.Site` seam: finding, reading and replacing."""

    @pytest.fixture
    def subject(self) -> SiteSubject:
        """Return the module and the site to test."""
        raise TypeError(f"{type(self).__name__} must override the fixture subject")

    def test_its_exact_name_finds_it_with_its_width(self, subject: SiteSubject) -> None:
        found = resolve_sites(subject.module, [subject.site.name], example=subject.inputs)
        _require(found == (subject.site,), f"found {found}, wanted {subject.site}")

    def test_a_glob_finds_it_among_others_in_the_order_of_the_module(
        self, subject: SiteSubject
    ) -> None:
        found = resolve_sites(subject.module, [subject.pattern], example=subject.inputs)
        _require(subject.site in found, f"{subject.pattern} found {found}")
        _require(len(found) > 1, f"{subject.pattern} found nothing beside {subject.site.name}")
        names = [site.name for site in found]
        paths = [name for name, _ in subject.module.named_modules() if name in names]
        _require(names == paths, f"{names} is not in the order {paths}")

    def test_capture_gives_a_row_for_each_token_and_leaves_the_output_alone(
        self, subject: SiteSubject
    ) -> None:
        before = _run(subject)
        with capture(subject.module, [subject.site]) as seen:
            during = _run(subject)
        rows = seen[subject.site.name]
        tokens = next(iter(subject.inputs.values())).shape[:2]
        _require(rows.shape[:2] == tokens, f"{tuple(rows.shape)} for tokens {tuple(tokens)}")
        width = rows[0, 0].numel()
        _require(width == subject.site.width, f"{width} numbers a row, not {subject.site.width}")
        torch.testing.assert_close(during, before, rtol=0, atol=0)

    def test_capturing_again_gives_the_same_bits(self, subject: SiteSubject) -> None:
        seen: list[Tensor] = []
        for _ in range(2):
            with capture(subject.module, [subject.site]) as captured:
                _run(subject)
            seen.append(captured[subject.site.name])
        torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)

    def test_splicing_what_was_there_changes_nothing(self, subject: SiteSubject) -> None:
        before = _run(subject)
        with splice(subject.module, {subject.site.name: torch.clone}):
            during = _run(subject)
        torch.testing.assert_close(during, before, rtol=0, atol=0)

    def test_splicing_zeros_changes_the_output_until_it_is_left(self, subject: SiteSubject) -> None:
        before = _run(subject)
        with splice(subject.module, {subject.site.name: torch.zeros_like}):
            with capture(subject.module, [subject.site]) as seen:
                during = _run(subject)
            _require(not bool(seen[subject.site.name].any()), "the site did not give the zeros")
        _require(not torch.equal(during, before), "the output does not depend on the site")
        torch.testing.assert_close(_run(subject), before, rtol=0, atol=0)

    def test_no_hook_stays_behind(self, subject: SiteSubject) -> None:
        before = _hooks(subject.module)
        with (
            capture(subject.module, [subject.site]),
            splice(subject.module, {subject.site.name: torch.clone}),
        ):
            _require(_hooks(subject.module) > before, "nothing is hooked inside the contexts")
            _run(subject)
        _require(_hooks(subject.module) == before, "a hook outlived its context")

    def test_no_hook_stays_behind_after_an_exception(self, subject: SiteSubject) -> None:
        def fails(rows: Tensor) -> Tensor:
            raise ArithmeticError(f"planted, at {tuple(rows.shape)}")

        before, name = _hooks(subject.module), subject.site.name
        with (
            pytest.raises(ArithmeticError, match="planted"),
            capture(subject.module, [subject.site]),
            splice(subject.module, {name: fails}),
        ):
            _run(subject)
        _require(_hooks(subject.module) == before, "a hook outlived the exception")

    def test_an_unknown_site_lists_the_nearest_names_and_leaves_no_hook(
        self, subject: SiteSubject
    ) -> None:
        before, name = _hooks(subject.module), subject.site.name
        misspelt = f"{name[:-2]}{name[-1]}{name[-2]}"
        with pytest.raises(UnknownSite) as resolving:
            resolve_sites(subject.module, [misspelt], example=subject.inputs)
        with (
            pytest.raises(UnknownSite) as capturing,
            capture(subject.module, [name, misspelt]),
        ):
            _run(subject)
        with (
            pytest.raises(UnknownSite) as splicing,
            splice(subject.module, {name: torch.clone, misspelt: torch.clone}),
        ):
            _run(subject)
        for caught in (resolving, capturing, splicing):
            said = str(caught.value)
            _require(repr(misspelt) in said, f"{said!r} does not say what was asked for")
            nearest = said.partition("nearest: ")[2].partition(";")[0].split(", ")
            _require(name in nearest, f"{said!r} does not list {name}")
        _require(_hooks(subject.module) == before, "a hook outlived the error")

    def test_finding_it_leaves_the_mode_of_each_submodule_alone(self, subject: SiteSubject) -> None:
        was = [module.training for module in subject.module.modules()]
        try:
            subject.module.train()
            subject.module.get_submodule(subject.site.name).eval()
            wanted = [module.training for module in subject.module.modules()]
            resolve_sites(subject.module, [subject.site.name], example=subject.inputs)
            found = [module.training for module in subject.module.modules()]
        finally:
            for module, mode in zip(subject.module.modules(), was, strict=True):
                module.training = mode
        _require(found == wanted, "resolving changed the mode of a submodule")


def _run(subject: SiteSubject) -> Tensor:
    with torch.inference_mode():
        return first_tensor(subject.module(**subject.inputs), "output").clone()


def _hooks(module: nn.Module) -> int:
    return sum(
        # torch has no public count of a module's hooks
        len(child._forward_hooks) + len(child._forward_pre_hooks)
        for child in module.modules()
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
