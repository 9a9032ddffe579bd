"""Toy models of superposition: geometry of features, and how many are represented.

``python examples/replications/superposition.py [--output FILE]``: half a minute of CPU. What the
paper claims and what is found here stands in ``README.md``.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isogloss.models.pages.page import svg

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from replication import Claim, Figure, curves, replication_page

STEPS, BATCH, STARTS = 1500, 256, 6
ACTIVE = (1.0, 0.7, 0.4, 0.2, 0.1, 0.05, 0.02)
"""Chances that a feature is active, from dense to sparse."""


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Toy models of several starts: ``relu(W^T W x + b)`` rebuilds ``x`` (Elhage et al. 2022)."""

    weight: Tensor
    """Directions of features, ``[starts, features, width]``."""
    loss: Tensor
    """Weighted squared error at the end, ``[starts]``."""

    @property
    def best(self) -> Tensor:
        """The start of the lowest loss, ``[features, width]``."""
        return self.weight[int(self.loss.argmin())]


def fit(features: int, width: int, active: float, *, importance: float = 1.0, seed: int = 0) -> Toy:
    """Train toy models on features that are active by chance, uniform in ``[0, 1]`` where so.

    Args:
        features: how many there are.
        width: dimensions that they share.
        active: chance that one is active.
        importance: each feature's weight in the loss, as a share of the one before.
        seed: of starts and batches.
    """
    random = torch.Generator().manual_seed(seed)
    weight = (0.5 * torch.randn(STARTS, features, width, generator=random)).requires_grad_()
    bias = torch.zeros(STARTS, 1, features, requires_grad=True)
    weights_of_loss = importance ** torch.arange(features)
    optimiser = torch.optim.Adam([weight, bias], lr=0.02)
    cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, eta_min=2e-4)
    recent = torch.zeros(STARTS)
    for step in range(STEPS):
        x = torch.rand(STARTS, BATCH, features, generator=random)
        x = x * (torch.rand(x.shape, generator=random) < active)
        rebuilt = torch.relu(x @ weight @ weight.mT + bias)
        loss = (weights_of_loss * (x - rebuilt) ** 2).mean((1, 2))
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        cooling.step()
        if step >= STEPS - 200:
            recent += loss.detach() / 200
    return Toy(weight=weight.detach(), loss=recent)


def dimensionality(weight: Tensor) -> Tensor:
    """Return the share of a dimension that each feature has, ``[features]``.

    ``|W_i|^2 / sum_j (W_i/|W_i| . W_j)^2``: 1 alone, 1/2 in an antipodal pair (digon), 2/5 in a
    pentagon, 3/8 in a square antiprism.
    """
    norm = weight.norm(dim=1, keepdim=True)
    return norm[:, 0] ** 2 / ((weight / norm.clamp(min=1e-9)) @ weight.T).pow(2).sum(1)


def is_regular(weight: Tensor, share: float, *, within: float = 0.04) -> bool:
    """Return whether all features are represented alike, with a given share of a dimension each."""
    norms = weight.norm(dim=1)
    return bool(
        ((dimensionality(weight) - share).abs() <= within).all()
        and norms.min() > 0.5
        and norms.max() / norms.min() < 1.2
    )


def pentagon() -> Tensor:
    """Five features in two dimensions."""
    return fit(5, 2, 0.05).best


def digons() -> Tensor:
    """Four features in two dimensions: two antipodal pairs."""
    return fit(4, 2, 0.1).best


def antiprism() -> Tensor:
    """Eight features in three dimensions."""
    return fit(8, 3, 0.03).best


def represented() -> list[float]:
    """Return the share of 20 features in 5 dimensions that is represented, from dense to sparse."""
    return [
        float((fit(20, 5, active, importance=0.9).best.norm(dim=1) > 0.5).float().mean())
        for active in ACTIVE
    ]


def checks(five: Tensor, pairs: Tensor, eight: Tensor, shares: list[float]) -> dict[str, bool]:
    """Return which claims of the paper hold here.

    Args:
        five: of :func:`pentagon`.
        pairs: of :func:`digons`.
        eight: of :func:`antiprism`.
        shares: of :func:`represented`.
    """
    angles = torch.atan2(five[:, 1], five[:, 0]).sort().values
    steps = torch.cat([angles, angles[:1] + 2 * math.pi]).diff()
    return {
        "pentagon": bool((steps.rad2deg() - 72).abs().max() < 4) and is_regular(five, 2 / 5),
        "digons": is_regular(pairs, 1 / 2),
        "antiprism": is_regular(eight, 3 / 8),
        "represented share monotone in sparsity": shares == sorted(shares)
        and shares[-1] > shares[0],
    }


def page(
    five: Tensor, pairs: Tensor, eight: Tensor, shares: list[float], held: dict[str, bool]
) -> str:
    """Write what was found as a page that stands alone.

    Args:
        five: of :func:`pentagon`.
        pairs: of :func:`digons`.
        eight: of :func:`antiprism`.
        shares: of :func:`represented`.
        held: of :func:`checks`.
    """
    figures = [
        Figure(drawing=_rays("a pentagon", five), caption="Five features in two dimensions."),
        Figure(drawing=_rays("two digons", pairs), caption="Four features in two dimensions."),
        Figure(
            drawing=_rays("an antiprism", eight),
            caption="Eight features in three dimensions, seen from above the square; grey lines "
            "join neighbours.",
        ),
        Figure(
            drawing=curves(
                [("represented", shares)],
                [f"{active:g}" for active in ACTIVE],
                "chance that a feature is active: dense to sparse",
            ),
            caption="Share of 20 features in 5 dimensions whose direction is longer than 1/2.",
        ),
    ]
    from_to = ", ".join(f"{share:.2f} at {at:g}" for at, share in zip(ACTIVE, shares, strict=True))
    claims = [
        Claim(paper=CLAIMS[name], here=here, holds=held[name])
        for name, here in (
            ("pentagon", f"dimensionality {_range(five)}, 2/5 in theory"),
            ("digons", f"dimensionality {_range(pairs)}, 1/2 in theory"),
            ("antiprism", f"dimensionality {_range(eight)}, 3/8 in theory"),
            ("represented share monotone in sparsity", f"represented: {from_to}"),
        )
    ]
    return replication_page(
        "Toy models of superposition",
        "After Elhage et al. 2022, Toy Models of Superposition, transformer-circuits.pub/2022/"
        "toy_model: the figures of its sections on geometry and on superposition as a phase "
        "change. "
        "A model rebuilds x as ReLU(WᵀWx + b); each ray is the direction of a feature, a row of W.",
        figures,
        claims,
        "Each geometry is looked for where the paper's argument puts it, at one sparsity, and in "
        f"the best of {STARTS} starts; the paper shows them as sparsity changes. Features are of "
        "equal importance in the first three, and each is .9 as important as the one before in the "
        "last. Recovery of the features by a dictionary is not part of this page.",
    )


CLAIMS = {
    "pentagon": "Five equal features in two dimensions lie as a pentagon.",
    "digons": "Features share a dimension in antipodal pairs (digons).",
    "antiprism": "Eight features in three dimensions lie as a square antiprism.",
    "represented share monotone in sparsity": "The sparser features are, the more of them are "
    "represented: none but the most important where all are active, nearly all where few are.",
}


def _range(weight: Tensor) -> str:
    found = dimensionality(weight)
    return f"{float(found.min()):.3f} to {float(found.max()):.3f}"


def _seen(weight: Tensor) -> Tensor:
    """Return directions in three dimensions seen along the axis of the two squares, a bit aslant.

    That axis, of 4,000 drawn, is the one along which all features are equally far from the middle.
    """
    drawn = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    drawn = drawn / drawn.norm(dim=0)
    along = (weight @ drawn).abs()
    axis = drawn[:, (along.std(0) / along.mean(0)).argmin()]
    basis = torch.linalg.qr(torch.cat([axis[:, None], torch.eye(3)], 1)).Q
    return weight @ basis[:, 1:] + (weight @ axis)[:, None] * torch.tensor([0.06, 0.2])


def _rays(title: str, weight: Tensor) -> str:
    """Draw directions from the middle, the longest to the edge, and lines between neighbours."""
    flat = weight if weight.shape[1] == 2 else _seen(weight)
    places = [(100 + x, 100 - y) for x, y in (flat / flat.norm(dim=1).max() * 84).tolist()]
    apart = torch.cdist(weight, weight) + 1e6 * torch.eye(len(weight))
    near = (apart < 1.12 * apart.min(1, keepdim=True).values).triu().nonzero().tolist()
    edges = [(int(i), int(j)) for i, j in near] if len(places) > 4 else []
    parts = [
        f'<line class="edge" x1="{places[i][0]:.1f}" y1="{places[i][1]:.1f}" '
        f'x2="{places[j][0]:.1f}" y2="{places[j][1]:.1f}"/>'
        for i, j in edges
    ]
    for x, y in places:
        parts.append(f'<line class="ray" x1="100" y1="100" x2="{x:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="tip" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    return svg(title, (200, 200), parts)


def main() -> None:
    """Train, write the page and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("superposition.html"))
    given = parser.parse_args()
    five, pairs, eight, shares = pentagon(), digons(), antiprism(), represented()
    held = checks(five, pairs, eight, shares)
    given.output.write_text(page(five, pairs, eight, shares, held), encoding="utf-8")
    print(held, shares, given.output)


if __name__ == "__main__":
    main()
