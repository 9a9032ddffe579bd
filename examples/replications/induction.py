"""Train a two-layer attention-only model until it has an induction head, and draw how.

``python examples/replications/induction.py [--seed N] [--output FILE]``: half a minute of CPU. What
the paper claims and what is found here stands in ``README.md``.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from isogloss.models import (
    Head,
    LoadedModel,
    TextPairs,
    attention_patterns,
    attention_svg,
    head_scores,
    induction_pairs,
    trace,
)

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from replication import Claim, Figure, curves, replication_page

TOKENS, WIDTH, HEADS, LENGTH = 32, 64, 4, 40
STEPS, BATCH, EVERY = 1200, 64, 200
BAR = 0.5
"""Score of a head, or share of an effect, from which a claim holds."""


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


def page(model: Model, course: list[Point], effects: tuple[float, float]) -> str:
    """Write what was found as a page that stands alone.

    Args:
        model: trained.
        course: of its training.
        effects: of :func:`ablated`.
    """
    last, losses = course[-1], [point.loss / math.log(TOKENS) for point in course]
    figures = [
        Figure(
            drawing=curves(
                [
                    ("induction head, layer 1", [p.induction for p in course]),
                    ("previous-token head, layer 0", [p.previous for p in course]),
                    ("loss of repeated tokens / log 32", losses),
                ],
                [str(p.step) for p in course],
                "steps of training",
            ),
            caption="The highest score of a head of each layer, and the loss, as the model trains.",
        ),
        *heads_drawn(model),
    ]
    claims = [
        Claim(
            paper="Two layers of attention form an induction head: it looks behind earlier places "
            "of the same token.",
            here=f"induction score {last.induction:.2f}, loss of repeated tokens {last.loss:.2f} "
            f"(log {TOKENS} = {math.log(TOKENS):.2f} without)",
            holds=last.induction >= BAR,
        ),
        Claim(
            paper="It is composed with a head of the layer below that looks at the token before.",
            here=f"previous-token score {last.previous:.2f}",
            holds=last.previous >= BAR,
        ),
        Claim(
            paper="Each needs the other.",
            here=f"corrupt activations of all heads of layer 0 take away {effects[0]:.1%} of what "
            f"the model knows of a repetition, those of layer 1 {effects[1]:.1%}",
            holds=min(effects) >= BAR,
        ),
    ]
    return replication_page(
        "Two layers of attention learn induction",
        "After Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, transformer-"
        "circuits.pub/2021/framework, and Olsson et al. 2022, In-context Learning and Induction "
        "Heads: a model of attention alone, trained on random tokens that repeat.",
        figures,
        claims,
        f"{TOKENS} tokens, texts of {LENGTH}, no language; positions are added to queries and keys "
        "only, so that values carry tokens and not places. The distance of the repetition varies "
        "from text to text: with a fixed one the model learns to look that far back, and has no "
        "previous-token head.",
    )


def heads_drawn(model: Model) -> list[Figure]:
    """Draw what the best head of each kind looks at on one text that repeats."""
    loaded = LoadedModel(module=model, name="two-layer")
    ids, _ = repeats(torch.Generator().manual_seed(5), 1)
    found = head_scores(loaded, ids.repeat(2, 1))
    text = ids[0, :24].tolist()
    figures: list[Figure] = []
    previous, induction = found.scores["previous"][0], found.scores["induction"][1]
    for layer, scores, said in (
        (0, previous, "The head of layer 0 that looks most at the token before."),
        (1, induction, "The head of layer 1 that looks most behind the same token's last place."),
    ):
        head = Head(layer=layer, head=int(scores.argmax()))
        patterns = attention_patterns(loaded, text, [head])
        drawing = attention_svg(patterns.tokens, patterns.values[0], head)
        figures.append(Figure(drawing=drawing, caption=f"{said} Rows look at columns."))
    return figures


def main() -> None:
    """Train, write the page and print the last step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("induction.html"))
    given = parser.parse_args()
    model, course = trained(given.seed)
    given.output.write_text(page(model, course, ablated(model)), encoding="utf-8")
    print(course[-1], given.output)


if __name__ == "__main__":
    main()
