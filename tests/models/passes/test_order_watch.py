"""Rows in another order than the ids are refused by name, whatever a model moves them with."""

import re
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from isogloss.errors import ShapeError
from isogloss.models import LoadedModel, record
from isogloss.models.passes.reader import PassReader, PassRows

WIDTH = 6
WORDS = nn.Embedding(400, WIDTH)
Move = Callable[[Tensor], Tensor]


class Copied(torch.autograd.Function):
    """Gives a copy, and its gradient back."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0]


class Turned(torch.autograd.Function):
    """Gives the tokens of each text from behind."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.flip(1)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0].flip(1)


def turn(x: Tensor) -> Tensor:
    return torch.arange(x.shape[1] - 1, -1, -1)


def turned(x: Tensor) -> Tensor:
    return cast("Tensor", Turned.apply(x))


def once_each(x: Tensor) -> Tensor:
    found = cast("Tensor", torch.unique(x.flatten(0, 1), dim=0))
    return found[: x[..., 0].numel()].view(x.shape)


def fourier(x: Tensor) -> Tensor:
    twice = cast("Tensor", torch.fft.fft(torch.fft.fft(x, dim=1), dim=1))
    return twice.real / x.shape[1]


def flipped(x: Tensor) -> Tensor:
    return x.flip(1)


def written(x: Tensor, index: Tensor) -> Tensor:
    made = torch.zeros_like(x)
    made[:, index] = x
    return made


KEPT: dict[str, Move] = {
    "nothing": lambda x: x,
    "rolled by parts and back": lambda x: rolled(rolled(x, 1), x.shape[1] - 1),
    "token by token": lambda x: torch.stack([x[:, i] for i in range(x.shape[1])], 1),
    "token by token, unbound": lambda x: torch.stack(x.unbind(1), dim=1),
    "text by text": lambda x: torch.cat([x[i : i + 1] for i in range(len(x))]),
    "halves": lambda x: torch.cat(x.chunk(2, dim=1), dim=1),
    "halves of the width": lambda x: torch.cat(x.split(2, dim=-1), -1),
    "a prefix and without it": lambda x: torch.cat([x[:, :1] * 0, x], 1)[:, 1:],
    "states before and without them": lambda x: torch.cat([torch.ones(len(x), 3, WIDTH), x], 1)[
        :, 3:
    ],
    "longer and cut": lambda x: functional.pad(x, (0, 0, 2, 3)).narrow(1, 2, x.shape[1]),
    "twice from behind": lambda x: x.flip(1).relu().flip(1) - (-x).flip(1).relu().flip(1),
    "even and odd": lambda x: (
        torch.stack([x[:, ::2], x[:, ::2]], 2).flatten(1, 2)[:, : x.shape[1]]
        if x.shape[1] < 2
        else x
    ),
    "own gradient": lambda x: cast("Tensor", Copied.apply(x)),
    "turned by two own gradients": lambda x: turned(turned(x)),
    "einsum": lambda x: torch.einsum("...td,de->...te", x, torch.eye(WIDTH)),
    "complex": lambda x: torch.view_as_real(
        torch.view_as_complex(x.contiguous().reshape(*x.shape[:-1], -1, 2))
        * torch.ones(1, dtype=torch.cfloat)
    ).flatten(2),
    "data": lambda x: x.data + 0,
    "a convolution of one token": lambda x: functional.conv1d(x.mT, torch.eye(WIDTH)[..., None]).mT,
    "a causal convolution": lambda x: (
        functional.conv1d(x.mT, functional.pad(torch.eye(WIDTH)[..., None], (2, 0)), padding=2)[
            ..., : x.shape[1]
        ].mT
    ),
    "sorted and back": lambda x: there_and_back(x),
    "added to what is not followed": lambda x: x + 0 * x.sort(1).values,
}
MOVED: dict[str, Move] = {
    "sorted": lambda x: x.sort(1).values,
    "sorted by a number": lambda x: x.gather(
        1, x[..., :1].argsort(1, descending=True).expand_as(x)
    ),
    "the highest": lambda x: x.topk(x.shape[1], dim=1)[0],
    "rolled by parts": lambda x: rolled(x, 1),
    "rolled by parts, texts": lambda x: torch.cat([x[-1:], x[:-1]]),
    "token by token from behind": lambda x: torch.stack([*x.unbind(1)][::-1], 1),
    "halves changed": lambda x: torch.cat([*x.tensor_split(2, dim=1)][::-1], 1),
    "shifted": lambda x: functional.pad(x, (0, 0, 1, -1)),
    "shifted around": lambda x: functional.pad(
        x.mT, (1, 0), mode="circular"
    )[..., :-1].mT,
    "a matrix that turns": lambda x: torch.eye(x.shape[1]).flip(0) @ x,
    "einsum with a turn": lambda x: torch.einsum("st,btd->bsd", torch.eye(x.shape[1]).flip(0), x),
    "picked": lambda x: x[:, turn(x)],
    "picked by texts": lambda x: x[torch.arange(len(x) - 1, -1, -1)],
    "picked by numpy": lambda x: torch.from_numpy(np.flip(x.detach().numpy(), 1).copy()),
    "picked from a list": lambda x: torch.tensor(cast("list[float]", x.detach().flip(1).tolist())),
    "scattered": lambda x: torch.zeros_like(x).scatter(
        1, turn(x)[None, :, None].expand_as(x).contiguous(), x
    ),
    "added by index": lambda x: torch.zeros_like(x).index_add(1, turn(x), x),
    "copied by index": lambda x: torch.zeros_like(x).index_copy_(1, turn(x), x),
    "written": lambda x: written(x, turn(x)),
    "chosen by a mask": lambda x: x.flip(1).masked_select(torch.ones_like(x).bool()).view_as(x),
    "a mask as an index": lambda x: x.flip(1)[torch.ones(x.shape[:2]).bool()].view(x.shape),
    "windows": lambda x: x.unfold(1, 1, 1)[..., 0].flip(1),
    "strides": lambda x: x.contiguous().as_strided(
        x.shape, (WIDTH, len(x) * WIDTH, 1)
    ),
    "read in another shape": lambda x: x.transpose(0, 1).reshape(x.shape),
    "read in another shape, flat": lambda x: x.transpose(0, 1).flatten().view(x.shape),
    "repeated": lambda x: x.repeat_interleave(2, 1)[:, : x.shape[1]],
    "repeated, texts": lambda x: x.repeat(2, 1, 1)[1 : len(x) + 1],
    "own gradient that turns": turned,
    "once each": once_each,
    "fourier": fourier,
    "the highest so far, then others": lambda x: torch.take(
        x, torch.arange(x.numel()).view(x.shape).flip(1)
    ),
    "diagonal": lambda x: torch.stack([x.diagonal(0, 1, 2)] * x.shape[1], 1)[..., :1].expand_as(x),
    "pixels": lambda x: functional.channel_shuffle(x[:, :, :, None].transpose(1, 2), 2)[
        ..., 0
    ].mT.flip(1),
    "rotated": lambda x: torch.rot90(torch.rot90(x, 1, (1, 2)), 1, (1, 2)).flip(2),
}  # fmt: skip


def rolled(x: Tensor, by: int) -> Tensor:
    return torch.cat([x[:, by:], x[:, :by]], 1)


def there_and_back(x: Tensor) -> Tensor:
    order = x[:, :, :1].argsort(1)
    return x.gather(1, order.expand_as(x)).gather(1, order.argsort(1).expand_as(x))


class Moving(nn.Module):
    """Moves the states of its tokens, in front of a site."""

    def __init__(self, moves: "Sequence[Move]") -> None:
        super().__init__()
        self.words, self.site, self.moves = WORDS, nn.Identity(), [*moves]

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for move in self.moves:
            x = move(x)
        return self.site(x)


def read(model: nn.Module, passes: Sequence[Tensor]) -> tuple[list[PassRows], list[Exception]]:
    seen, errors = list[PassRows](), list[Exception]()
    with (
        torch.no_grad(),
        PassReader(model, ["site"], take=seen.append, leave_out=errors.append),
    ):
        for ids in passes:
            model(ids)
    return seen, errors


def different(seed: int, *shape: int) -> Tensor:
    """Return ids of which no two are the same."""
    chance = np.random.default_rng(seed)
    return torch.from_numpy(chance.permutation(400)[: int(np.prod(shape))].reshape(shape))


def are_right(seen: Sequence[PassRows]) -> bool:
    """Return whether each row is the state of its token, with nothing else done to it."""
    return all(
        torch.allclose(rows.sites["site"], WORDS(torch.from_numpy(rows.token_id.astype(np.int64))))
        for rows in seen
    )


SIZES = [(3, 5), (3, 4), (1, 7), (4, 4), (2, WIDTH)]


@pytest.mark.parametrize("name", KEPT)
def test_rows_that_come_back_to_their_places_are_taken(name: str) -> None:
    passes = [different(seed, *size) for seed, size in enumerate(SIZES)]
    seen, errors = read(Moving([KEPT[name]]), passes)
    assert not errors
    assert len(seen) == len(passes)
    assert are_right(seen)


@pytest.mark.parametrize("name", MOVED)
def test_rows_that_stand_at_other_places_are_refused_by_name(name: str) -> None:
    passes = [different(seed, *size) for seed, size in enumerate(SIZES)]
    model = Moving([MOVED[name]])
    seen, errors = read(model, passes)
    assert are_right(seen)
    assert not [rows for rows in seen if rows.rows > 7]  # of one text there may be nothing to move
    assert all(isinstance(error, ShapeError) for error in errors)
    assert all(re.search("order|earlier passes", str(error)) for error in errors)
    with pytest.raises(ShapeError, match="order"):
        list(record(LoadedModel(module=model, name="m"), passes[0].tolist(), ["site"]))


ALONE = WORDS(torch.tensor([[7]])).detach()
EVERY = {  # those that leave a row alone as it is: others change what they move
    name: move
    for name, move in (KEPT | MOVED).items()
    if name != "once each" and torch.allclose(move(ALONE), ALONE, atol=1e-5)
}


@given(
    names=st.lists(st.sampled_from(sorted(EVERY)), min_size=1, max_size=3),
    sizes=st.lists(st.sampled_from([(1, 1), (1, 3), (3, 1), (2, 2), *SIZES]), max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_no_moves_one_behind_another_give_rows_of_other_tokens(
    names: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> None:
    passes = [different(seed, *size) for seed, size in enumerate([*sizes, (3, 5)])]
    seen, errors = read(Moving([EVERY[name] for name in names]), passes)
    assert are_right(seen)
    assert len(seen) + len(errors) == len(passes)


def test_numbers_that_move_nothing_at_first_are_looked_at_in_each_pass() -> None:
    def ordered(x: Tensor) -> Tensor:
        return x.gather(1, x[..., :1].argsort(1).expand_as(x))

    first = different(0, 3, 5)
    states = WORDS(first)[..., 0]
    first = first.gather(1, states.argsort(1))  # in order by chance
    seen, errors = read(Moving([ordered]), [first, different(1, 3, 5), first, different(2, 3, 4)])
    assert len(seen) == len(errors) == 2
    assert are_right(seen)


class Begins(Moving):
    """Begins to turn its texts in some pass."""

    def __init__(self, *, when: "When") -> None:
        super().__init__([])
        self.passes, self.when = 0, when

    def forward(self, ids: Tensor) -> Tensor:
        self.passes += 1
        x = self.words(ids)
        return self.site(x.flip(1) if self.when(self.passes, ids, self.training) else x)


class Recurrent(nn.Module):
    """Reads its texts token by token."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.words, self.site = nn.Embedding(400, WIDTH), nn.Identity()
        self.cell = kind(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        state, states = torch.zeros(len(ids), WIDTH), list[Tensor]()
        for i in range(ids.shape[1]):
            state = self.cell(self.words(ids[:, i]) + state, state)
            states.append(state)
        return self.site(torch.stack(states, 1))


class Bags(nn.Module):
    """Looks its tokens up in bags of one, as given or from behind."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.words, self.site, self.way = nn.EmbeddingBag(400, WIDTH), nn.Identity(), way

    def forward(self, ids: Tensor) -> Tensor:
        read = ids.flip(1) if self.way == "from behind" else ids
        if self.way == "by offsets":
            rows = self.words(read.flatten(), torch.arange(ids.numel()))
        else:
            rows = self.words(read.reshape(-1, 1))
        return self.site(rows.view(*ids.shape, WIDTH))


class Windows(nn.Module):
    """Works on two tokens at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.part, self.site = nn.Embedding(400, WIDTH), nn.Identity(), nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        pairs = functional.pad(x, (0, 0, 0, -ids.shape[1] % 2)).reshape(-1, 2, WIDTH)
        mixed = pairs.mean(1, keepdim=True) + pairs
        return self.site(x + self.part(mixed.view(len(ids), -1, WIDTH)[:, : ids.shape[1]]))


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "gru": (lambda: Recurrent(nn.GRUCell), "site"),
    "rnn": (lambda: Recurrent(nn.RNNCell), "site"),
    "bags": (lambda: Bags("one by one"), "site"),
    "bags by offsets": (lambda: Bags("by offsets"), "site"),
    "bags from behind": (lambda: Bags("from behind"), ""),
    "windows": (Windows, "site"),
    "a part of windows": (Windows, "part"),
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_whole_models_are_those_of_a_plain_hook_or_refused(name: str) -> None:
    make, site = MODELS[name]
    torch.manual_seed(0)
    model, seen, errors = make().eval(), list[PassRows](), list[Exception]()
    for seed, size in enumerate([(3, 5), (1, 4), (4, 4), (2, 6)]):
        ids, plain = different(seed, *size), list[Tensor]()
        with torch.no_grad():
            place = model.get_submodule(site or "site")
            hook = place.register_forward_hook(lambda _, __, out, to=plain: to.append(out))
            model(ids)
            hook.remove()
            with PassReader(model, [site or "site"], take=seen.append, leave_out=errors.append):
                model(ids)
        for rows in seen[-1:] if site and not errors else []:
            assert torch.equal(rows.sites[site], plain[0].flatten(0, 1))
            assert rows.token_id.tolist() == ids.flatten().tolist()
    is_refused = name in ("bags from behind", "a part of windows")
    assert bool(errors) == is_refused
    assert len(seen) + len(errors) == 4
    if name == "a part of windows":  # of an even number of tokens it is known
        assert all("behind 'reshape'" in str(error) for error in errors)


When = Callable[[int, Tensor, bool], bool]
SIGNS: dict[str, When] = {
    "longer": lambda _, ids, __: ids.shape[1] > 5,
    "shorter": lambda _, ids, __: ids.shape[1] < 5,
    "more": lambda _, ids, __: len(ids) > 3,
    "one": lambda _, ids, __: len(ids) == 1,
    "square": lambda _, ids, __: ids.shape[0] == ids.shape[1],
    "as wide": lambda _, ids, __: ids.shape[1] == WIDTH,
    "training": lambda _, __, is_training: is_training,
}


@pytest.mark.parametrize("name", SIGNS)
def test_moves_that_begin_with_sizes_or_a_mode_are_told(name: str) -> None:
    when = SIGNS[name]
    model = Begins(when=when).eval()
    seen, errors = list[PassRows](), list[Exception]()
    with PassReader(model, ["site"], take=seen.append, leave_out=errors.append), torch.no_grad():
        for seed, size in enumerate(
            [(3, 5), (3, 5), (3, 6), (3, 5), (2, 4), (4, 5), (4, 4), (1, 5)]
        ):
            model(different(seed, *size))
        model.train()(different(9, 3, 5))
    assert errors
    assert are_right(seen)


def test_moves_that_begin_by_themselves_are_told_after_some_passes_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Begins(when=lambda number, _, __: number > 30)
    seen, errors = read(model, [different(seed, 3, 5) for seed in range(200)])
    assert 30 <= len(seen) <= 30 + 64
    assert len(errors) == 200 - len(seen)
    assert are_right(seen[:30])
    assert f"up to {len(seen) - 1} passes before" in caplog.text


def hides(module: nn.Module, args: object, x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy().copy())


def test_what_cannot_be_followed_is_taken_where_the_user_says_its_order_or_the_library_does() -> (
    None
):
    model, ids = Moving([lambda x: torch.from_numpy(x.numpy().copy())]), different(0, 3, 5)
    seen, errors = list[PassRows](), list[Exception]()
    with (
        PassReader(
            model, ["site"], take=seen.append, leave_out=errors.append, layout="batch_first"
        ),
        torch.no_grad(),
    ):
        model(ids)
        assert len(seen) == 1
        model.moves = [flipped]  # but what is certain is not
        model(different(1, 3, 6))
    assert "another order" in str(errors[0])
    inside = BertModel(
        BertConfig(
            vocab_size=400, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8, max_position_embeddings=32,
        )
    ).eval()  # fmt: skip
    inside.embeddings.register_forward_hook(hides)
    seen = []
    with (
        PassReader(inside, ["encoder.layer.0"], take=seen.append, leave_out=errors.append),
        torch.no_grad(),
    ):
        inside(input_ids=ids)
    assert len(seen) == 1
