"""Where the features of a dictionary fire on texts that a live model reads."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import (
    LoadedModel,
    capture,
    check_ids,
    evaluating,
    find_sites,
    start_ids,
    unwrapped,
)

_FIRST = 1 << 16
"""Entries for which there is room at first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Firings:
    """Features that fire on some texts, an entry for each token and feature."""

    ids: Tensor
    """Of the texts, ``[texts, tokens]``."""
    skipped: int
    """Special tokens before each text, on which nothing is counted."""
    text: NDArray[np.int64]
    """Of each entry the text."""
    position: NDArray[np.int64]
    """The token's place in it."""
    feature: NDArray[np.int64]
    """Which feature fires there."""
    value: NDArray[np.float32]
    """Its activation."""
    features: int
    """Of the dictionary."""
    norm: float
    """Median norm of a row at the site."""

    @property
    def rows(self) -> int:
        """Tokens that were looked at."""
        return self.ids.shape[0] * (self.ids.shape[1] - self.skipped)

    def counts(self) -> NDArray[np.int64]:
        """Return on how many tokens each feature fires, ``[features]``."""
        return np.bincount(self.feature, minlength=self.features)

    def means(self) -> NDArray[np.float64]:
        """Return the mean activation of each feature where it fires, ``[features]``; 0: nowhere."""
        sums = np.bincount(self.feature, weights=self.value, minlength=self.features)
        return sums / np.maximum(self.counts(), 1)


def site_of(dictionary: DictionaryModule, model: LoadedModel, site: str | None) -> str:
    """Return the path of the site that a dictionary of one site reads and writes.

    Args:
        dictionary: of wiring ``sae``.
        model: the live model.
        site: where; None: where it was trained.

    Raises:
        InvalidInput: the dictionary is of another wiring, or its site is not known.
        UnknownSite: the model has no such submodule.
    """
    if dictionary.wiring != "sae":
        raise InvalidInput(
            f"the dictionary is a {dictionary.wiring}; effects are measured of one that reads and "
            "writes one site (wiring sae)"
        )
    known = [] if dictionary.passport is None else list(dictionary.passport.sites)
    names = known if site is None else [site]
    if len(names) != 1:
        raise InvalidInput("the dictionary does not say at which site it was trained; give site=")
    return find_sites(unwrapped(model.module), names)[0]


def content_start(model: LoadedModel, ids: Tensor) -> int:
    """Return how many special tokens stand before each text.

    Args:
        model: whose tokenizer puts them there.
        ids: of the texts.

    Raises:
        InvalidInput: the ids are not ``[texts, tokens]``, hold fewer than 2 of content, more than
            the model reads, or some that it does not have.
    """
    skipped = len(start_ids(model))
    if ids.ndim != 2 or ids.shape[1] <= skipped + 1:
        raise InvalidInput(f"ids are {list(ids.shape)}; wanted [texts, tokens], 2 of content each")
    if not len(ids):
        raise InvalidInput("no text was given; give one at least")
    check_ids(model, ids)
    return skipped


def find_firings(
    dictionary: DictionaryModule,
    model: LoadedModel,
    ids: Tensor,
    *,
    site: str | None = None,
    allow: Collection[str] = (),
) -> Firings:
    """Run texts through a model and encode what passes the dictionary's site.

    Args:
        dictionary: of one site.
        model: the model that it was trained on.
        ids: token ids, such as of :func:`isogloss.models.token_windows`, ``[texts, tokens]``.
        site: where; None: where it was trained.
        allow: parts of the passport that may differ.

    Raises:
        InvalidInput: the dictionary is of several sites, texts hold special tokens alone or more
            than the model reads, or activations are not finite.
        PassportRefused: the model or site is another than in training.
        UnknownSite: the model has no such submodule.
    """
    path, skipped = site_of(dictionary, model, site), content_start(model, ids)
    dictionary.check(model.module, path).require(allow)
    root: nn.Module = unwrapped(model.module)
    ids = ids.to(next((one.device for one in root.parameters()), ids.device))
    entries, norms = _Entries(), torch.empty(len(ids), ids.shape[1] - skipped)
    with torch.no_grad(), evaluating(root), capture(root, [path], stop_early=True) as seen:
        for i, text in enumerate(ids):
            seen.run(text[None])
            rows = seen[path][0, skipped:].flatten(1)
            if not rows.isfinite().all():
                raise InvalidInput(
                    f"text {i} has activations at {path!r} that are not finite; load the model in "
                    "float32, or leave the text out"
                )
            norms[i] = rows.float().norm(dim=1)
            dense = dictionary.encode(rows).dense().float()
            at = dense.nonzero()
            values = dense[at[:, 0], at[:, 1]].double()
            number = torch.full_like(values, i)
            made = torch.stack([number, at[:, 0].double() + skipped, at[:, 1].double(), values])
            entries.add(made.cpu().numpy())
    text_, position, feature, value = entries.all()
    return Firings(
        ids=ids,
        skipped=skipped,
        text=text_.astype(np.int64),
        position=position.astype(np.int64),
        feature=feature.astype(np.int64),
        value=value.astype(np.float32),
        features=dictionary.features,
        norm=float(norms.median()),
    )


class _Entries:
    """Columns that are added to, in one array that grows by doubling.

    An array of its own for each text would come to lie where the pass before had a large one, which
    then fits there no more: 5 GB of holes after 1,200 texts.
    """

    def __init__(self) -> None:
        self._held, self._count = np.empty((4, _FIRST)), 0

    def add(self, columns: NDArray[np.float64]) -> None:
        """Put columns behind the others."""
        end = self._count + columns.shape[1]
        while end > self._held.shape[1]:
            self._held = np.concatenate((self._held, np.empty_like(self._held)), axis=1)
        self._held[:, self._count : end] = columns
        self._count = end

    def all(self) -> NDArray[np.float64]:
        """Return what was added."""
        return self._held[:, : self._count]


def alike(
    firings: Firings, norms: NDArray[np.float64], feature: int, count: int, seed: int
) -> NDArray[np.int64]:
    """Draw other features that fire about as often, and write about as much where they do.

    Of the features that fire, the ``4 * count`` nearest in log frequency and in log of mean
    activation times decoder norm are taken, and ``count`` of them are drawn.

    Args:
        firings: of the dictionary.
        norms: of its decoder rows, ``[features]``.
        feature: beside which.
        count: how many, fewer where the dictionary has no more.
        seed: of the draw.
    """
    counts, written = firings.counts(), firings.means() * norms
    others = np.flatnonzero((counts > 0) & (np.arange(firings.features) != feature))
    own = np.log(max(counts[feature], 1)), np.log(max(written[feature], 1e-9))
    far = np.abs(np.log(counts[others]) - own[0]) + np.abs(np.log(written[others] + 1e-9) - own[1])
    near = others[np.argsort(far, kind="stable")[: 4 * count]]
    draw = np.random.default_rng([seed, feature])
    return draw.permutation(near)[:count]
