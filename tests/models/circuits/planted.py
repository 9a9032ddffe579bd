"""A model with a planted circuit among decoys: what followed the last token before, renamed."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from isogloss.models import LoadedModel, TextPairs

TOKENS, LENGTH, HEADS, SIZE, LAYERS, JUNK = 24, 10, 4, 24, 3, 16
WIDTH = 4 * TOKENS + LENGTH + JUNK
_SHARP, _LEAK = 9.0, 0.004

TOKEN, PREVIOUS, MIDDLE, OUT = (slice(i * TOKENS, (i + 1) * TOKENS) for i in range(4))
PLACE = slice(4 * TOKENS, 4 * TOKENS + LENGTH)
REST = slice(4 * TOKENS + LENGTH, WIDTH)


@dataclass(frozen=True)
class Config:
    """What says how many tokens the model knows and reads."""

    vocab_size: int = TOKENS
    max_position_embeddings: int = LENGTH


class Attention(nn.Module):
    """Causal attention with projections named as those of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = HEADS
        inner = HEADS * SIZE
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(WIDTH, inner, bias=False) for _ in range(3)
        )
        self.o_proj = nn.Linear(inner, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (HEADS, SIZE)) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k)
        behind = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        pattern = torch.softmax(scores.masked_fill(behind, -torch.inf), -1)
        return self.o_proj(torch.einsum("bhqk,bkhd->bqhd", pattern, v).flatten(2))


class Mlp(nn.Module):
    """Two linear maps with a ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, TOKENS)
        self.outer = nn.Linear(TOKENS, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.relu(self.inner(x)))


class Layer(nn.Module):
    """Attention, then an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Planted(nn.Module):
    """Random decoys, whose weights :func:`planted` overwrites where the circuit is."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.places = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.unembed = nn.Linear(WIDTH, TOKENS, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.places[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.unembed(x)


def planted(seed: int) -> tuple[LoadedModel, tuple[str, ...], Tensor]:
    """Make the model of a seed; return it, its circuit's edges, and how tokens are renamed.

    A head copies the token before; one of the next layer looks at what followed on an earlier copy
    of the token, and an MLP and a head of the last layer rename that. The other heads and MLPs read
    all there is, write beside it, and leak a little onto the output.
    """
    random = torch.Generator().manual_seed(seed)
    model = Planted().eval().requires_grad_(False)
    renamed = torch.randperm(TOKENS, generator=random)
    first, second, third = torch.randint(HEADS, (3,), generator=random).tolist()
    model.embed.weight.zero_()[:, TOKEN] = torch.eye(TOKENS)
    model.places.zero_()[:, PLACE] = torch.eye(LENGTH)
    layers = cast("list[Layer]", list(model.layers))
    for layer in layers:
        _decoys(layer, random)
    shift = torch.eye(LENGTH).roll(1, 0)  # a key says the place behind it
    _head(layers[0].attn, first, (PLACE, torch.eye(LENGTH)), (PLACE, shift), PREVIOUS)
    token, rename = torch.eye(TOKENS), torch.eye(TOKENS)[renamed].T
    _head(layers[1].attn, second, (TOKEN, token), (PREVIOUS, token), MIDDLE)
    own = torch.eye(LENGTH)
    _head(layers[2].attn, third, (PLACE, own), (PLACE, own), OUT, reads=MIDDLE, by=rename)
    inner, outer = layers[1].mlp.inner, layers[1].mlp.outer
    inner.weight.zero_()[:, MIDDLE] = 2 * token
    inner.bias.fill_(-1.0)
    outer.weight.zero_()[OUT] = rename
    model.unembed.weight.zero_()[:, OUT] = 4 * token
    _rotate(model, random)
    head = f"a1.h{second}"
    edges = (
        f"input->a0.h{first}<v>", f"a0.h{first}->{head}<k>", f"input->{head}<q>",
        f"input->{head}<v>", f"{head}->m1", "m1->logits", f"{head}->a2.h{third}<v>",
        f"a2.h{third}->logits",
    )  # fmt: skip
    return LoadedModel(module=model, name=f"planted {seed}"), edges, renamed


def texts(renamed: Tensor, count: int = 16, seed: int = 0) -> TextPairs:
    """Make pairs whose last token stood before, at another place in each, without a common token.

    At one place for both, corrupt queries and keys would find what clean ones find.
    """
    random = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.empty(2, count, LENGTH, dtype=torch.int64)
    right, wrong = list[tuple[int, ...]](), list[tuple[int, ...]]()
    for i in range(count):
        drawn = torch.randperm(TOKENS, generator=random)
        places = torch.randperm(LENGTH - 2, generator=random)[:2].tolist()
        for text, tokens, answers, at in (
            (clean[i], drawn[:LENGTH], right, places[0]),
            (corrupt[i], drawn[LENGTH : 2 * LENGTH], wrong, places[1]),
        ):
            text[:] = tokens
            text[-1] = text[at]
            answers.append((int(renamed[text[at + 1]]),))
    shown = tuple(f"t{token}" for token in clean[0].tolist())
    return TextPairs(
        clean=clean, corrupt=corrupt, right=tuple(right), wrong=tuple(wrong), tokens=shown
    )


def _decoys(layer: Layer, random: torch.Generator) -> None:
    """Let heads and MLP read everything, and write to the rest and a little to the output."""
    attention = layer.attn
    for part in (attention.q_proj, attention.k_proj, attention.v_proj, layer.mlp.inner):
        part.weight.copy_(0.3 * torch.randn(part.weight.shape, generator=random))
    layer.mlp.inner.bias.zero_()
    for part in (attention.o_proj, layer.mlp.outer):
        drawn = 0.3 * torch.randn(part.weight.shape, generator=random)
        part.weight.zero_()[REST] = drawn[REST]
        part.weight[OUT] = _LEAK * drawn[OUT]


def _head(
    attention: Attention,
    head: int,
    query: tuple[slice, Tensor],
    key: tuple[slice, Tensor],
    writes: slice,
    *,
    reads: slice = TOKEN,
    by: Tensor | None = None,
) -> None:
    """Let a head attend where query and key are alike, and carry a token's part to another."""
    rows = slice(head * SIZE, (head + 1) * SIZE)
    for part in (attention.q_proj, attention.k_proj, attention.v_proj):
        part.weight[rows] = 0
    attention.o_proj.weight[:, rows] = 0
    start = head * SIZE
    for part, (where, what) in ((attention.q_proj, query), (attention.k_proj, key)):
        part.weight[start : start + len(what), where] = _SHARP**0.5 * what
    attention.v_proj.weight[start : start + TOKENS, reads] = torch.eye(TOKENS)
    attention.o_proj.weight[writes, start : start + TOKENS] = (
        torch.eye(TOKENS) if by is None else by
    )


def _rotate(model: Planted, random: torch.Generator) -> None:
    """Turn the residual stream, so that no part of it lies along an axis."""
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=random)).Q
    for table in (model.embed.weight, model.places, model.unembed.weight):
        table.copy_(table @ turn.T)
    for layer in cast("list[Layer]", list(model.layers)):
        attention = layer.attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, layer.mlp.inner):
            part.weight.copy_(part.weight @ turn.T)
        for part in (attention.o_proj, layer.mlp.outer):
            part.weight.copy_(turn @ part.weight)
