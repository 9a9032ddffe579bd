"""Whether steering a feature raises the tokens that follow where it fires."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv
from torch import Tensor

from isogloss.dictionaries.effects.firings import Firings, find_firings
from isogloss.dictionaries.effects.shifts import shifts
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, permutation_p


@dataclass(frozen=True, kw_only=True)
class SteeredFeature:
    """A feature whose followers were looked for under steering."""

    feature: int
    """Its number."""
    followers: tuple[int, ...]
    """Ids of the next tokens that are over-represented after its firings, most so first; see
    :func:`followers`."""
    rise: float
    """Mean change of their log probability when the feature is added, in nats."""
    null: tuple[float, ...]
    """The same when random features of equal norm are added."""

    @property
    def p(self) -> float:
        """Chance that a random feature raises them as much: ``(1 + n) / (1 + all)``."""
        return permutation_p(self.rise, self.null)


def steered_followers(
    dictionary: DictionaryModule,
    model: LoadedModel,
    held_out: Tensor,
    ids: Tensor,
    *,
    count: int = 50,
    random: int = 100,
    strength: float = 0.2,
    seed: int = 0,
    site: str | None = None,
    allow: Collection[str] = (),
) -> list[SteeredFeature]:
    """Steer features beyond the token, and see whether what follows their firings rises.

    A feature is beyond the token where no token makes half of its firings. Its followers are the
    next tokens most over-represented after the stronger half of them on held-out texts
    (:func:`followers`). All features, these and random ones, are added at one norm. What is added
    should be small: large shifts make the model say things of their own, whichever the feature.

    Args:
        dictionary: of one site.
        model: a causal language model.
        held_out: texts that the dictionary was not trained on, on which followers are counted.
        ids: texts in which features are added.
        count: features beyond the token, drawn at random.
        random: random features, none of those.
        strength: norm of what is added, as a share of the median norm of the site's rows.
        seed: of the draws.
        site: where; None: where the dictionary was trained.
        allow: parts of the passport that may differ.

    Returns:
        The features, fewer than ``count`` where fewer are beyond the token.

    Raises:
        InvalidInput: no feature is beyond the token on these texts, or a setting is not above 0.
        PassportRefused: the model or site is another than in training.
    """
    if min(count, random) < 1 or not strength > 0:
        raise InvalidInput(f"count {count}, random {random}, strength {strength}; wanted above 0")
    found = find_firings(dictionary, model, held_out, site=site, allow=allow)
    known = {one: followers(found, one) for one in beyond_the_token(found)}
    usable = [one for one, some in known.items() if some]
    draw = np.random.default_rng(seed)
    chosen = sorted(draw.permutation(usable)[:count].tolist())
    others = np.setdiff1d(np.flatnonzero(found.counts()), chosen)
    beside = draw.permutation(others)[:random].tolist()
    if not chosen or not beside:
        raise InvalidInput(
            f"{len(usable)} features beyond the token and {len(others)} others fire on these "
            "texts; give more of them"
        )
    norm = strength * found.norm
    changed = shifts(dictionary, model, ids, chosen + beside, norm=norm, site=site, allow=allow)
    null = changed[len(chosen) :]
    return [_steered(one, known[one], own, null) for own, one in zip(changed, chosen, strict=False)]


def _steered(feature: int, at: tuple[int, ...], own: Tensor, null: Tensor) -> SteeredFeature:
    """Return how a feature's followers change under it, and under random features."""
    return SteeredFeature(
        feature=feature,
        followers=at,
        rise=float(own[list(at)].mean()),
        null=tuple(null[:, list(at)].mean(1).tolist()),
    )


def beyond_the_token(firings: Firings, *, least: int = 10, share: float = 0.5) -> list[int]:
    """Return the features that no single token explains.

    Args:
        firings: on some texts.
        least: firings that a feature must have.
        share: of its firings that no token may make.
    """
    tokens = firings.ids.cpu().numpy()[firings.text, firings.position]
    found: list[int] = []
    for feature, own in _by_feature(firings):
        if len(own) >= least and np.unique(tokens[own], return_counts=True)[1].max() < share * len(
            own
        ):
            found.append(feature)
    return found


def followers(
    firings: Firings,
    feature: int,
    *,
    count: int = 10,
    least: int = 3,
    level: float = 0.01,
    share: float = 0.5,
) -> tuple[int, ...]:
    """Return the next tokens that are most over-represented after a feature's strong firings.

    A token is over-represented where a binomial test of its count there, at its share of all next
    tokens, says so at a level that all tokens of the texts share (Bonferroni). Most so are those
    whose share there is for certain (lower end of the 95 % interval of Clopper and Pearson, 1934,
    one-sided) the greatest multiple of their share of all: common tokens, which follow everything,
    do not come first because they are many.

    Args:
        firings: on some texts.
        feature: its number.
        count: tokens at most.
        least: times that a token must follow.
        level: chance that one of the texts' tokens is called over-represented that is not.
        share: of its firings the strongest; weak ones are often of other things.
    """
    ids = firings.ids.cpu().numpy()
    own = np.flatnonzero((firings.feature == feature) & (firings.position < ids.shape[1] - 1))
    own = own[np.argsort(-firings.value[own], kind="stable")[: math.ceil(share * len(own))]]
    after = ids[firings.text[own], firings.position[own] + 1]
    every = ids[:, firings.skipped + 1 :].ravel()
    if not len(after):
        return ()
    tokens, times = np.unique(after, return_counts=True)
    known = np.bincount(every, minlength=int(ids.max()) + 1)
    base = known[tokens] / len(every)
    p = bdtrc(times - 1, len(after), base)
    kept = (times >= least) & (p <= level / np.count_nonzero(known))
    lowest = betaincinv(times, len(after) - times + 1, 0.05)
    order = np.argsort(-np.where(kept, lowest / base, -np.inf), kind="stable")
    return tuple(tokens[order[: min(count, int(kept.sum()))]].tolist())


def _by_feature(firings: Firings) -> Sequence[tuple[int, NDArray[np.int64]]]:
    """Return the entries of each feature that fires."""
    order = np.argsort(firings.feature, kind="stable")
    features, starts = np.unique(firings.feature[order], return_index=True)
    parts = np.split(order, starts[1:])
    return list(zip(features.tolist(), parts, strict=True))
