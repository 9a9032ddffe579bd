"""Toy models of superposition: geometry of features, and how many are represented.

``python examples/replications/superposition.py [--output FILE]``: half a minute of CPU. What the
paper claims and what is found here stands in ``README.md``.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

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


def page(five: Tensor, pairs: Tensor, shares: list[float], held: dict[str, bool]) -> str:
    """Draw directions and the represented share as a page that stands alone."""
    points = " ".join(
        f"{440 + 180 * i / (len(shares) - 1):.0f},{200 - 160 * share:.0f}"
        for i, share in enumerate(shares)
    )
    said = "".join(
        f"<li>{name}: {'found' if is_so else 'not found'}</li>" for name, is_so in held.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Superposition</title>'
        "<style>body{margin:24px;font:14px/1.5 system-ui,sans-serif;color:#1f2328;background:#fff}"
        "svg text{font-size:11px}</style><h1>Toy models of superposition</h1>"
        '<svg width="680" height="240" role="img" aria-label="directions and represented share">'
        f"{_arrows(five, 100, 'five features in two dimensions')}"
        f"{_arrows(pairs, 300, 'four features in two dimensions')}"
        f'<rect x="440" y="40" width="180" height="160" fill="none" stroke="#d5dae0"/>'
        f'<polyline points="{points}" fill="none" stroke="#0b57a4" stroke-width="2"/>'
        '<text x="530" y="226" text-anchor="middle">share of 20 features in 5 dimensions</text>'
        '<text x="440" y="214">dense</text><text x="620" y="214" text-anchor="end">sparse</text>'
        '<text x="434" y="46" text-anchor="end">1</text>'
        f'<text x="434" y="204" text-anchor="end">0</text></svg><ul>{said}</ul></html>\n'
    )


def _arrows(weight: Tensor, x: int, title: str) -> str:
    lines = "".join(
        f'<line x1="{x}" y1="120" x2="{x + 70 * float(a):.1f}" y2="{120 - 70 * float(b):.1f}" '
        'stroke="#0b57a4" stroke-width="2"/>'
        for a, b in weight
    )
    return f'{lines}<text x="{x}" y="226" text-anchor="middle">{title}</text>'


def main() -> None:
    """Train, write the page and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("superposition.html"))
    given = parser.parse_args()
    five, pairs, eight, shares = pentagon(), digons(), antiprism(), represented()
    held = checks(five, pairs, eight, shares)
    given.output.write_text(page(five, pairs, shares, held), encoding="utf-8")
    print(held, shares, given.output)


if __name__ == "__main__":
    main()
