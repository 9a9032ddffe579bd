"""Ablation: zeros, means or another text's activations in the place of a site's own."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.elements.rows import pattern_axis
from isogloss.models.hooks import splice

Way = Literal["zero", "mean", "resample"]


@contextmanager
def ablate(
    module: nn.Module,
    sites: Sequence[str],
    way: Way = "zero",
    *,
    reference: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Generator[None]:
    """Ablate sites while this is entered.

    Args:
        module: the model.
        sites: names as :func:`isogloss.models.capture` takes them.
        way: ``zero``; ``mean`` over the reference's texts and tokens (of a pattern over its texts,
            so that it is a pattern); ``resample``: each text has the activations of a text of the
            reference that is drawn for it.
        reference: what the sites gave on other texts, as a :class:`isogloss.models.Capture` holds
            it: a mapping from site to tensor.
        seed: of the draw, which is the same for all sites of a pass.

    Raises:
        UnknownSite: there is no such submodule.
        InvalidInput: the way is none, or wants a reference that lacks a site.
        ShapeError: in the forward pass, when the reference's texts are of another length.
    """
    if way not in ("zero", "mean", "resample"):
        raise InvalidInput(f"way is {way!r}; wanted 'zero', 'mean' or 'resample'")
    known = reference or {}
    if way != "zero" and (lacking := [site for site in sites if site not in known]):
        raise InvalidInput(
            f"a {way} ablation takes reference=, what the sites give on other texts; it lacks "
            f"{lacking}"
        )
    replacements = {
        site: torch.zeros_like if way == "zero" else _from(site, known[site], way, seed)
        for site in sites
    }
    with splice(module, replacements):
        yield


def _from(site: str, reference: Tensor, way: Way, seed: int) -> Callable[[Tensor], Tensor]:
    over = (0,) if pattern_axis(site) else (0, 1)
    mean = reference.mean(over, keepdim=True) if way == "mean" else None

    def replace(own: Tensor) -> Tensor:
        if mean is not None:
            return _expanded(mean, own, site)
        random = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(reference), (len(own),), generator=random)
        return _expanded(reference[drawn.to(reference.device)], own, site)

    return replace


def _expanded(new: Tensor, own: Tensor, site: str) -> Tensor:
    try:
        return new.to(own).expand_as(own).clone()
    except RuntimeError as error:
        raise ShapeError(
            f"the reference at {site!r} has texts of {list(new.shape[1:])}, the run "
            f"{list(own.shape[1:])}; give texts of the same length"
        ) from error
