"""Axes of ids followed through the operations of a pass."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from isogloss.errors import IsoglossError
from isogloss.models.passes.axes.labels import UNKNOWN
from isogloss.models.passes.axes.tables import TracedAxes
from isogloss.models.passes.axes.trace import AxisTrace
from isogloss.models.passes.reader import PassReader, PassRows

WIDTH = 4
IDS = torch.arange(16).reshape(4, 4)  # as many texts as tokens, and as the width
STATES = nn.Embedding(20, WIDTH)
SOME = torch.tensor([1, 2, 3, 4])


def followed(run: Callable[[Tensor], Tensor], ids: Tensor = IDS) -> TracedAxes | None:
    """Return what is followed to the end of operations on the embedded ids."""
    trace = AxisTrace()
    trace.begin()
    try:
        return trace.traced(run(STATES(ids)))
    finally:
        trace.end()


def axes(found: TracedAxes | None) -> list[int | None] | None:
    return None if found is None else [label and label.axis for label in found.labels]


def joined(x: Tensor) -> Tensor:
    """Return the states of several heads, brought together as attention does it."""
    heads = x.view(4, 4, 2, 2).transpose(1, 2)
    return (heads @ heads.transpose(2, 3)).softmax(-1) @ heads


def packed(
    x: Tensor, lengths: list[int], *, is_sorted: bool = True, batch_first: bool = True
) -> Tensor:
    """Return what a recurrent layer makes of texts without their padding."""
    tight = nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=is_sorted
    )
    states, _ = nn.LSTM(WIDTH, WIDTH, num_layers=2)(tight)
    return nn.utils.rnn.pad_packed_sequence(states, batch_first=batch_first)[0]


KEPT: dict[str, tuple[Callable[[Tensor], Tensor], list[int | None]]] = {
    "activation": (functional.gelu, [0, 1, None]),
    "linear": (nn.Linear(WIDTH, WIDTH), [0, 1, None]),
    "norm": (nn.LayerNorm(WIDTH), [0, 1, None]),
    "rms norm": (nn.RMSNorm(WIDTH), [0, 1, None]),
    "bilinear": (lambda x: nn.Bilinear(WIDTH, WIDTH, WIDTH)(x, x), [0, 1, None]),
    "lstm": (lambda x: nn.LSTM(WIDTH, WIDTH)(x)[0], [0, 1, None]),
    "packed": (lambda x: packed(x, [4, 2, 2, 1]), [0, 1, None]),
    "packed, none of all tokens": (lambda x: packed(x, [3, 2, 2, 1]), [0, None, None]),
    "packed, in any order": (lambda x: packed(x, [1, 4, 2, 2], is_sorted=False), [0, 1, None]),
    "packed, time first": (lambda x: packed(x, [4, 2, 2, 1], batch_first=False), [0, 1, None]),
    "gru": (lambda x: nn.GRU(WIDTH, WIDTH, bidirectional=True)(x)[0], [0, 1, None]),
    "attention": (lambda x: nn.MultiheadAttention(WIDTH, 2)(x, x, x)[0], [0, 1, None]),
    "attention, batch first": (
        lambda x: nn.MultiheadAttention(WIDTH, 2, batch_first=True)(x, x, x)[0], [0, 1, None],
    ),
    "fused attention": (
        lambda x: functional.scaled_dot_product_attention(x, x, x), [0, 1, None]
    ),
    "heads": (joined, [0, None, 1, None]),
    "heads joined": (lambda x: joined(x).transpose(1, 2).reshape(4, 4, 4), [0, 1, None]),
    "scores": (lambda x: x @ x.mT, [0, 1, 1]),
    "transposed": (lambda x: x.transpose(0, 1).contiguous(), [1, 0, None]),
    "turned around": (lambda x: x.permute(2, 0, 1), [None, 0, 1]),
    "moved": (lambda x: x.movedim(0, -1), [1, None, 0]),
    "channels first, normed": (lambda x: nn.LayerNorm(4)(x.mT), [0, None, 1]),
    "over tokens": (lambda x: nn.Linear(4, 4)(x.mT), [0, None, None]),
    "over tokens, and back": (
        lambda x: x + functional.linear(x.mT, torch.eye(4)).mT, [0, 1, None]
    ),
    "flat and back": (lambda x: torch.unflatten(x.view(-1, 4).relu(), 0, (4, 4)), [0, 1, None]),
    "einsum": (lambda x: torch.einsum("btd,dk->tbk", x, x[0]), [1, 0, None]),
    "part of the width": (lambda x: x[..., :2], [0, 1, None]),
    "part of the tokens": (lambda x: x[:, 1:], [0, 1, None]),
    "one more axis": (lambda x: x[:, None], [0, None, 1, None]),
    "chunks": (lambda x: x.chunk(2, dim=-1)[1], [0, 1, None]),
    "in place": (lambda x: x.detach().mul_(2).transpose_(0, 1), [1, 0, None]),
    "masked": (lambda x: torch.where(x > 0, x, 0.0), [0, 1, None]),
    "rotated": (lambda x: torch.cat([-x[..., 2:], x[..., :2]], -1), [0, 1, None]),
    "normed by hand": (
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), [0, 1, None]
    ),
    "repeated heads": (
        lambda x: x[:, None].expand(4, 2, 4, 4).reshape(4, 2, 4, 4), [0, None, 1, None]
    ),
    "more of the width": (lambda x: x.repeat(1, 1, 2), [0, 1, None]),
    "unknown, on top": (lambda x: x + x.flip(1), [0, 1, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_axes_are_followed_through(name: str) -> None:
    run, wanted = KEPT[name]
    assert axes(followed(run)) == wanted


LOST: dict[str, Callable[[Tensor], Tensor]] = {
    "sort": lambda x: x.sort(1)[0],
    "rolled over texts": lambda x: x.roll(1),
    "rows of other texts for each number": lambda x: x.gather(0, IDS[:, :, None] % SOME),
    "windows": lambda x: x.unfold(1, 2, 1)[..., 0].permute(2, 0, 1),
    "reflected": lambda x: functional.pad(x, (0, 0, 1, 1), mode="reflect")[:, 1:3].sum(0),
    "overwritten": lambda x: x.detach().clone().copy_(x.flip(1)),
    "a part overwritten": lambda x: _overwritten(x.detach().clone()),
    "numpy": lambda x: torch.from_numpy(x.detach().numpy()),
    "overwritten in a view": lambda x: _written(x, lambda y: y.view(-1)),
    "overwritten in a slice": lambda x: _written(x, lambda y: y[:]),
    "overwritten as data": lambda x: _written(x, lambda y: y.data),
    "overwritten by numpy": lambda x: _written(x, lambda y: torch.from_numpy(y.numpy())),
    "scattered in a view": lambda x: _scattered(x.detach().clone()),
    "given as out": lambda x: _given_out(x.detach().clone()),
    "of other memory": lambda x: _of_memory(x.detach().clone()),
}


def _overwritten(x: Tensor) -> Tensor:
    x[:, 0] = x[:, 1]
    return x


def _written(x: Tensor, shown: Callable[[Tensor], Tensor]) -> Tensor:
    """Return states that were turned in place, in another tensor of the same memory."""
    states = x.detach().clone()
    view = shown(states)
    view.copy_(states.transpose(0, 1).reshape(view.shape).clone())
    return states


def _scattered(x: Tensor) -> Tensor:
    x[:].index_copy_(0, torch.tensor([1, 0, 2, 3]), x.clone())
    return x


def _given_out(x: Tensor) -> Tensor:
    order = torch.tensor([1, 0, 2, 3])
    states = x.clone()
    torch.index_select(x, 0, order, out=states[:])
    assert torch.equal(states, x[order])  # what is followed is not written to again
    return states


def _of_memory(x: Tensor) -> Tensor:
    x.set_(x.transpose(0, 1).contiguous())  # type: ignore[no-untyped-call] # torch's own
    return x


@pytest.mark.parametrize("name", LOST)
def test_what_moves_tokens_in_another_way_has_no_known_axes(name: str) -> None:
    assert not any(label is not None for label in axes(followed(LOST[name])) or ())


ORDER = torch.tensor([2, 0, 3, 1])
EACH = torch.stack([ORDER, ORDER.flip(0), ORDER.roll(1), ORDER])
MOVED: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "flip": (lambda x: x.flip(1), IDS.flip(1)),
    "flip, texts": (lambda x: torch.flip(x, [0]), IDS.flip(0)),
    "roll": (lambda x: x.roll((1, 2), (1, 0)), IDS.roll((1, 2), (1, 0))),
    "chosen": (lambda x: x[:, ORDER], IDS[:, ORDER]),
    "chosen, turned": (lambda x: x.transpose(0, 1)[ORDER], IDS[:, ORDER]),
    "chosen, by name": (lambda x: x.index_select(1, ORDER), IDS[:, ORDER]),
    "chosen, several times": (lambda x: x[:, ORDER % 2], IDS[:, ORDER % 2]),
    "repeated": (
        lambda x: x.repeat_interleave(torch.tensor([2, 0, 1, 1]), 1), IDS[:, [0, 0, 2, 3]]
    ),
    "gathered": (
        lambda x: x.gather(1, EACH[:, :, None].expand(4, 4, WIDTH)), IDS.gather(1, EACH)
    ),
    "along": (lambda x: torch.take_along_dim(x, EACH[:, :, None], 1), IDS.gather(1, EACH)),
    "sorted, all texts": (
        lambda x: x.flatten(0, 1)[torch.arange(15, -1, -1)].view(4, 4, WIDTH),
        IDS.flip(0).flip(1),
    ),
    "packed": (lambda x: packed(x[ORDER], [4, 2, 2, 1]), IDS[ORDER]),
    "there and back": (lambda x: x.flip(1).relu().flip(1), IDS),
    "rolled back": (lambda x: x.roll(1, 1).roll(-1, 1), IDS),
    "chosen back": (lambda x: x[:, ORDER][:, ORDER.argsort()], IDS),
    "only numbers": (lambda x: x.flip(2), IDS),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_rows_that_are_moved_are_of_the_ids_in_that_order(name: str) -> None:
    run, ids = MOVED[name]
    found = followed(run)
    assert found is not None
    is_turned = name == "chosen, turned"
    assert found.places(ids, is_turned=False) == ((1, 0) if is_turned else (0, 1))
    assert found.is_moved_from([IDS]) == (not torch.equal(ids, IDS))
    assert not found.is_moved_from([IDS, ids])
    assert not found.is_moved_from([IDS + 1])


def test_rows_that_are_moved_and_added_to_the_others_stay_where_these_are() -> None:
    found = followed(lambda x: x + x.flip(1))
    assert found is not None
    assert not found.is_moved_from([IDS])
    places = nn.Embedding(20, WIDTH)
    found = followed(lambda x: x.flip(1) + places(torch.arange(4)[None] + 0 * IDS[:1]))
    assert found is not None
    assert found.is_moved_from([IDS])


@pytest.mark.parametrize("square", [True, False])
def test_a_site_at_which_texts_are_moved_is_refused_by_name(square: bool) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.site, self.after = STATES, nn.ReLU(), nn.Identity()

        def forward(self, ids: Tensor) -> Tensor:
            return self.after(self.site(self.words(ids).flip(1)).flip(1))

    model, ids = Backwards(), IDS if square else IDS[:3]
    for site, is_taken in (("site", False), ("after", True)):
        seen, errors = list[PassRows](), list[Exception]()
        with PassReader(model, [site], take=seen.append, leave_out=errors.append):
            for _ in range(12):  # more than are followed
                model(ids)
        assert len(seen) == (12 if is_taken else 0)
        assert len(errors) == (0 if is_taken else 12)
        assert all("another order" in str(error) for error in errors)
        for rows in seen:
            assert torch.equal(rows.sites[site], STATES(ids).relu().flatten(0, 1))


def test_ids_are_followed_from_what_is_given_and_from_what_embeddings_read() -> None:
    assert axes(followed(lambda x: STATES(IDS.T) + x)) == [None] * 3  # each the other way around
    trace = AxisTrace()
    trace.name(IDS, IDS.clone())
    trace.begin()
    found = trace.traced(STATES(IDS.T.contiguous().int()))
    trace.end()
    assert found is not None
    assert found.places(IDS, is_turned=False) == (1, 0)
    assert found.places(IDS, is_turned=True) == (0, 1)
    assert found.places(IDS + 1, is_turned=False) is None
    assert found.is_of_others(IDS + 1)
    assert not found.is_of_others(IDS)


def masked(ids: Tensor) -> Tensor:
    return ids.masked_fill(ids > 3, 0)


@pytest.mark.parametrize(
    "change",
    [partial(torch.clamp, max=3), partial(torch.add, 1), masked],
    ids=["bounded", "moved", "masked"],
)
def test_ids_that_were_changed_are_others(change: Callable[[Tensor], Tensor]) -> None:
    trace = AxisTrace()
    trace.name(IDS, IDS.clone())
    trace.begin()
    found = trace.traced(STATES(change(IDS)))
    trace.end()
    assert found is not None
    assert found.is_of_others(IDS)
    assert found.places(change(IDS), is_turned=False) == (0, 1)


def test_a_sum_with_what_may_be_of_other_ids_does_not_say_whose_rows_it_has() -> None:
    other = torch.randn(4, 4, WIDTH)
    found = followed(lambda x: x + other)
    assert found is not None
    assert found.places(IDS, is_turned=False) == (0, 1)
    assert all(label is None or UNKNOWN in label.tables for label in found.labels)
    assert not found.is_of_others(IDS + 1)
    for beside in (other[0, 0], torch.randn(1, 4, WIDTH)):  # one for all texts
        found = followed(partial(torch.add, beside))
        assert found is not None
        assert found.is_of_others(IDS + 1)


def test_one_text_or_one_token_makes_no_difference() -> None:
    one = followed(lambda x: x.view(1, 4, 2, 2).transpose(1, 2), IDS[:1])
    assert one is not None
    assert one.places(IDS[:1], is_turned=False) == (None, 2)


def test_a_mode_that_the_model_leaves_open_does_no_harm() -> None:
    trace, other = AxisTrace(), AxisTrace()
    trace.begin()
    other.begin()
    trace.end()
    assert axes(trace.traced(STATES(IDS))) == [None] * 3
    other.end()
    trace.end()
    assert not torch.overrides._get_current_function_mode_stack()


class Program(nn.Module):
    """Does to its states what it is told, then gives them to a site of some type."""

    def __init__(self, steps: Sequence[str], site: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.steps = nn.Embedding(40, WIDTH), steps
        self.kind = site
        self.site = SITES[site]()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for step in self.steps:
            x = STEPS[step](x)
        if self.kind in ("lstm", "attention"):
            return (self.site(x) if self.kind == "lstm" else self.site(x, x, x))[0]
        return self.site(x, x) if self.kind == "bilinear" else self.site(x)


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "swap": lambda x: x.transpose(0, 1),
    "swap, copied": lambda x: x.transpose(0, 1).contiguous(),
    "relu": lambda x: x.relu() + x,
    "norm": lambda x: functional.layer_norm(x, x.shape[-1:]),
    "flat": lambda x: torch.unflatten(2 * x.flatten(0, 1), 0, x.shape[:2]),
    "channels": lambda x: x.transpose(1, 2).tanh().transpose(1, 2),
    "flipped": lambda x: x.flip(2),
}
SITES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "rms norm": lambda: nn.RMSNorm(WIDTH),
    "bilinear": lambda: nn.Bilinear(WIDTH, WIDTH, WIDTH),
    "identity": nn.Identity,
}


def alone(model: Program, row: Tensor) -> Tensor:
    """Return the rows of one text, each token run alone: all steps work on each by itself."""
    with torch.no_grad():
        return torch.cat([model(token.reshape(1, 1)).reshape(1, -1) for token in row])


@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=4),
    site=st.sampled_from(sorted(SITES)),
    sizes=st.lists(st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 2), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_rows_are_right_and_never_refused_where_all_steps_are_known(
    steps: Sequence[str], site: str, sizes: Sequence[tuple[int, int]], seed: int
) -> None:
    model = Program(steps, site).eval()
    chance = np.random.default_rng(seed)
    passes = [torch.from_numpy(chance.integers(0, 40, some)) for some in sizes]
    seen, errors = list[PassRows](), list[Exception]()
    with (
        PassReader(model, ["site"], take=seen.append, leave_out=errors.append),
        torch.no_grad(),
    ):
        for ids in passes:
            model(ids)
    assert all(isinstance(error, IsoglossError) for error in errors)
    assert not errors
    assert len(seen) == len(passes)
    for rows in seen:
        ids = torch.from_numpy(rows.token_id.astype(np.int64))
        torch.testing.assert_close(rows.sites["site"], alone(model, ids), atol=1e-4, rtol=1e-4)
    documents = [document.tolist() for rows in seen for document in rows.documents]
    if not errors:
        assert documents == [row for ids in passes for row in cast("list[list[int]]", ids.tolist())]
