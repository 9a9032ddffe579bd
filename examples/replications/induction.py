"""Train a two-layer attention-only model until it has an induction head, and draw how.

``python examples/replications/induction.py [--seed N] [--output FILE]``: half a minute of CPU. What
the paper claims and what is found here stands in ``README.md``.
"""

import argparse
import html
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from isogloss.models import LoadedModel, TextPairs, head_scores, induction_pairs, trace

TOKENS, WIDTH, HEADS, LENGTH = 32, 64, 4, 40
STEPS, BATCH, EVERY = 1200, 64, 200


@dataclass(frozen=True, kw_only=True)
class Point:
    """What the model is like at a step of training."""

    step: int
    """Of the optimiser."""
    loss: float
    """Of the repeated tokens, in nats."""
    previous: float
    """Highest previous-token score of a head of the first layer."""
    induction: float
    """Highest induction score of a head of the second layer."""


@dataclass(frozen=True)
class Config:
    """What says how many tokens the model knows and reads."""

    vocab_size: int = TOKENS
    """Tokens that it knows."""
    max_position_embeddings: int = LENGTH
    """Tokens of a text at most."""


class Attention(nn.Module):
    """Causal attention whose queries and keys see positions, and whose values do not.

    Its submodules are named as TransformerLens names its hook points, so that heads are sites.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_heads = HEADS
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.hook_q, self.hook_k, self.hook_v = (nn.Identity() for _ in range(3))
        self.hook_z, self.hook_pattern = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return what the heads add to ``x``, ``[batch, tokens, width]``."""
        heads = (-1, (HEADS, WIDTH // HEADS))
        q = self.hook_q(self.q(x + positions).unflatten(*heads))
        k = self.hook_k(self.k(x + positions).unflatten(*heads))
        v = self.hook_v(self.v(x).unflatten(*heads))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / (WIDTH // HEADS) ** 0.5
        behind = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        pattern = self.hook_pattern(torch.softmax(scores.masked_fill(behind, -torch.inf), -1))
        return self.o(self.hook_z(torch.einsum("bhqk,bkhd->bqhd", pattern, v)).flatten(2))


class Model(nn.Module):
    """Two layers of attention, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.positions = nn.Parameter(0.3 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.ModuleList(Attention() for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.unembed = nn.Linear(WIDTH, TOKENS, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits, ``[batch, tokens, vocabulary]``."""
        x = self.embed(ids)
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = x + layer(norm(x), self.positions[: ids.shape[1]])
        return self.unembed(self.norms[2](x))


def repeats(random: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Make random texts that repeat, each at a distance of its own; and say which tokens repeat.

    With one distance for all a model learns to look that far back, and needs no induction head.
    """
    block = torch.randint(TOKENS, (count, LENGTH), generator=random)
    period = torch.randint(LENGTH // 4, LENGTH // 2 + 1, (count, 1), generator=random)
    place = torch.arange(LENGTH)[None]
    return block.gather(1, place % period), place >= period


def train(seed: int) -> list[Point]:
    """Train from a seed; return what the model was like on the way."""
    return trained(seed)[1]


def trained(seed: int) -> tuple[Model, list[Point]]:
    """Train from a seed; return the model too."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    course: list[Point] = []
    for step in range(STEPS + 1):
        ids, is_repeated = repeats(random, BATCH)
        logits = model(ids)[:, :-1]
        each = functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none")
        loss = each[is_repeated[:, 1:]].mean()
        if step % EVERY == 0:
            course.append(_point(model, step, float(loss.detach())))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), course


def _point(model: Model, step: int, loss: float) -> Point:
    ids, _ = repeats(torch.Generator().manual_seed(1_000_003), 16)
    found = head_scores(LoadedModel(module=model, name="two-layer"), ids).scores
    return Point(
        step=step,
        loss=loss,
        previous=float(found["previous"][0].max()),
        induction=float(found["induction"][1].max()),
    )


def ablated(model: Model) -> tuple[float, float]:
    """Return the effects of the previous-token heads and of the induction heads on a repetition.

    All heads of a layer at once, noised: 1 is the whole of what the model knows of it.
    """
    loaded = LoadedModel(module=model, name="two-layer")
    pairs: TextPairs = induction_pairs(loaded, 32, tokens=24)
    sites = [f"layers.{layer}.heads.z" for layer in range(2)]
    found = trace(loaded, pairs, sites, positions="all", mode="noise").effects[:, 0]
    return float(found[0]), float(found[1])


def page(course: list[Point], effects: tuple[float, float]) -> str:
    """Draw the course of training as a page that stands alone."""
    lines = [
        _line("loss of repeated tokens / log 32", "#b3261e", [p.loss / 3.4657 for p in course]),
        _line("previous-token head, layer 0", "#0b57a4", [p.previous for p in course]),
        _line("induction head, layer 1", "#2e7d32", [p.induction for p in course]),
    ]
    legend = "".join(
        f'<text x="400" y="{30 + 18 * i}" fill="{color}">{html.escape(name)}</text>'
        for i, (name, color, _) in enumerate(lines)
    )
    apart = 330 / (len(course) - 1)
    marks = "".join(
        f'<text x="{40 + apart * i:.0f}" y="236" text-anchor="middle">{p.step}</text>'
        for i, p in enumerate(course)
    )
    curves = "".join(line for _, _, line in lines)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Induction heads</title>'
        "<style>body{margin:24px;font:14px/1.5 system-ui,sans-serif;color:#1f2328;background:#fff}"
        "svg text{font-size:11px}</style><h1>Two layers of attention learn induction</h1>"
        f'<svg width="640" height="250" role="img" aria-label="course of training">'
        f'<rect x="40" y="20" width="330" height="200" fill="none" stroke="#d5dae0"/>'
        f'<text x="34" y="24" text-anchor="end">1</text><text x="34" y="222" text-anchor="end">0'
        f"</text>{curves}{legend}{marks}</svg>"
        f"<p>Corrupt activations of all heads of layer 0 take away {effects[0]:.2f} of what the "
        f"model knows of a repetition, those of layer 1 {effects[1]:.2f}: each needs the other.</p>"
        "</html>\n"
    )


def _line(name: str, color: str, values: list[float]) -> tuple[str, str, str]:
    last = len(values) - 1
    places = " ".join(
        f"{40 + 330 * i / last:.1f},{220 - 200 * min(value, 1.0):.1f}"
        for i, value in enumerate(values)
    )
    return (
        name,
        color,
        f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="2"/>',
    )


def main() -> None:
    """Train, write the page and print the last step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("induction.html"))
    given = parser.parse_args()
    model, course = trained(given.seed)
    given.output.write_text(page(course, ablated(model)), encoding="utf-8")
    print(course[-1], given.output)


if __name__ == "__main__":
    main()
