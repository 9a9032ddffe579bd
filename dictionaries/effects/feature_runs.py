"""Clean and corrupt texts through a model whose features at several sites are nodes."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from isogloss.dictionaries.effects.firings import site_of
from isogloss.dictionaries.effects.shifts import decoder_of
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import (
    LoadedModel,
    Metric,
    TextPairs,
    capture,
    check_pairs,
    evaluating,
    last_logits,
    measure,
    splice,
    told_apart,
    unwrapped,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureRuns:
    """Both runs of some pairs, in features of dictionaries."""

    model: LoadedModel
    """The model."""
    pairs: TextPairs
    """Clean and corrupt texts."""
    dictionaries: Mapping[str, DictionaryModule]
    """By the path of their site, in the order in which the model reaches them."""
    metric: Metric
    """What is measured."""
    own: dict[str, Tensor]
    """Activations of features in the clean run, ``[pairs, tokens, features]``, by site."""
    donor: dict[str, Tensor]
    """In the corrupt run."""
    clean_logits: Tensor
    """At the last position."""
    clean: float
    """The metric of the clean texts, mean over pairs."""
    corrupt: float
    """The metric of the corrupt texts."""

    @property
    def root(self) -> nn.Module:
        """The module of the model."""
        return unwrapped(self.model.module)

    def run(self, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        """Run the clean texts with sites changed; return the metric, mean over pairs.

        Args:
            changes: for each site's path what takes the place of its activations.
        """
        ids = self.pairs.clean.to(self.clean_logits.device)
        with evaluating(self.root), splice(self.root, changes):
            logits = last_logits(self.root, ids)
        return measure(self.metric, logits, self.pairs, self.clean_logits).mean()

    def share(self, value: float) -> float:
        """Return the share of the way from the corrupt to the clean metric that a value makes."""
        return (value - self.corrupt) / (self.clean - self.corrupt)

    def faithfulness(self, kept: Mapping[str, Tensor]) -> float:
        """Run the clean texts with all features but some set to what they are in the corrupt run.

        What the dictionaries do not explain stays as it is in the pass.

        Args:
            kept: for each site's path which features stay, ``[tokens, features]``, boolean.
        """

        def change(site: str, dictionary: DictionaryModule, x: Tensor) -> Tensor:
            less = (self.donor[site] - dictionary.dense(x).float()) * ~kept[site]
            return (x.float() + less @ decoder_of(dictionary, x)).to(x.dtype)

        with torch.no_grad():
            return self.share(float(self.run(self._at_each(change))))

    def totals(self) -> dict[str, Tensor]:
        """Return the gradient of the metric at each feature, through all that comes after it.

        Returns:
            By site, ``[pairs, tokens, features]``.
        """
        leaves: dict[str, Tensor] = {}

        def change(site: str, dictionary: DictionaryModule, x: Tensor) -> Tensor:
            leaf = leaves[site] = torch.zeros_like(self.own[site]).requires_grad_()
            return x + (leaf @ decoder_of(dictionary, x)).to(x.dtype)

        with torch.enable_grad():
            value = self.run(self._at_each(change))
        order = list(self.dictionaries)
        found = torch.autograd.grad(value, [leaves[site] for site in order])
        return dict(zip(order, found, strict=True))

    def graph(self) -> "tuple[dict[str, Tensor], dict[str, Tensor], Tensor]":
        """Run the clean texts so that features hand on nothing but through their own activation.

        At each site the reconstruction is made of activations that are leaves: what comes before
        reaches what comes after through later features' activations, which are in the graph of
        autograd, or through what the dictionaries do not explain.

        Returns:
            Leaves and activations by site, ``[pairs, tokens, features]``, and the metric.
        """
        leaves: dict[str, Tensor] = {}
        reached: dict[str, Tensor] = {}

        def change(site: str, dictionary: DictionaryModule, x: Tensor) -> Tensor:
            codes = reached[site] = dictionary.dense(x.float())
            leaf = leaves[site] = codes.detach().clone().requires_grad_()
            return x + ((leaf - codes) @ decoder_of(dictionary, x)).to(x.dtype)

        with torch.enable_grad():
            value = self.run(self._at_each(change))
        return leaves, reached, value

    def _at_each(
        self, change: Callable[[str, DictionaryModule, Tensor], Tensor]
    ) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return a change for each site, which is told its path and dictionary."""
        return {site: partial(change, site, one) for site, one in self.dictionaries.items()}


def feature_runs(
    model: LoadedModel,
    pairs: TextPairs,
    dictionaries: Mapping[str, DictionaryModule],
    metric: Metric,
    allow: Collection[str],
) -> FeatureRuns:
    """Check dictionaries and pairs, and run both texts once.

    Args:
        model: a causal language model.
        pairs: clean and corrupt texts.
        dictionaries: by site, of one site each.
        metric: what is measured.
        allow: parts of the passports that may differ.

    Raises:
        InvalidInput: there is no dictionary, one is of several sites or two are of one, texts are
            longer than the model's context, or the metric tells no difference between them.
        PassportRefused: a dictionary is of another model or site.
        UnknownSite: the model has no such submodule.
    """
    if not dictionaries:
        raise InvalidInput("no dictionary was given; give one at least, by its site")
    root = unwrapped(model.module)
    check_pairs(model, pairs)
    found = _by_path(model, dictionaries, allow)
    order: list[str] = []
    seen: list[dict[str, Tensor]] = []
    logits: list[Tensor] = []

    def noted(site: str) -> Callable[[Tensor], Tensor]:
        def note(x: Tensor) -> Tensor:
            order.append(site)
            return x

        return note

    device = next(root.parameters()).device
    with torch.no_grad(), evaluating(root), capture(root, list(found)) as captured:
        for ids in (pairs.clean, pairs.corrupt):
            with splice(root, {site: noted(site) for site in found}):
                logits.append(last_logits(root, ids.to(device)))
            seen.append({site: one.dense(captured[site]).float() for site, one in found.items()})
    values = [float(measure(metric, one, pairs, logits[0]).mean()) for one in logits]
    clean, corrupt = told_apart(values[0], values[1], metric)
    return FeatureRuns(
        model=model,
        pairs=pairs,
        dictionaries={site: found[site] for site in dict.fromkeys(order)},
        metric=metric,
        own=seen[0],
        donor=seen[1],
        clean_logits=logits[0],
        clean=clean,
        corrupt=corrupt,
    )


def _by_path(
    model: LoadedModel, dictionaries: Mapping[str, DictionaryModule], allow: Collection[str]
) -> dict[str, DictionaryModule]:
    """Return dictionaries by the path of their site, each checked against its passport."""
    found: dict[str, DictionaryModule] = {}
    for named, one in dictionaries.items():
        site = site_of(one, model, named)
        if site in found:
            raise InvalidInput(f"two dictionaries are of site {site!r}; give one a site")
        one.check(model.module, site).require(allow)
        found[site] = one
    return found
