"""Axes of a site's output."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from transformers import BertConfig, BertModel

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.passes.layout import (
    BATCH_FIRST,
    Layout,
    Sized,
    batch_first,
    numbers,
    own_length,
    unresolved,
    width_is_last,
    width_of,
    without_own_padding,
)


def layout(fixed: tuple[int, int] | None = None, module: nn.Module | None = None) -> Layout:
    return Layout("site", module or nn.Identity(), fixed)


def told(known: Layout, shape: tuple[int, ...], sequences: int, tokens: int) -> object:
    known.see(shape, sequences, tokens)
    return known.axes(shape, sequences, tokens)


def test_different_sizes_tell_the_axes_at_once():
    assert told(layout(), (4, 6, 8), 4, 6) == (0, 1)
    assert told(layout(), (6, 4, 8), 4, 6) == (1, 0)  # time first
    assert told(layout(), (4, 2, 6, 8), 4, 6) == (0, 2)  # heads first
    assert told(layout(), (4, 6, 2, 8), 4, 6) == (0, 1)


def test_axes_of_one_make_no_difference():
    assert told(layout(), (1, 1, 8), 1, 1) == (0, 1)
    assert told(layout(), (1, 6, 1), 1, 6) == (0, 1)
    assert told(layout(), (1, 1, 6, 8), 1, 6) in {(0, 2), (1, 2)}


def test_tokens_on_the_last_axis_are_seen_in_two_lengths_first():
    known = layout()
    assert told(known, (4, 11, 8), 4, 8) is None  # may be [texts, other rows, width 8]
    with pytest.raises(ShapeError, match="choose another submodule"):
        known.see((4, 9, 8), 4, 6)
    known = layout()
    assert told(known, (4, 8, 6), 4, 6) is None
    assert told(known, (4, 8, 5), 4, 5) == (0, 2)  # channels first
    assert known.axes((4, 8, 6), 4, 6) == (0, 2)
    assert told(layout(), (1, 8, 1), 1, 1) is not None


@pytest.mark.parametrize("shape", [(4, 6, 8), (6, 4, 8)])
def test_equal_sizes_are_told_apart_by_another_pass(shape: tuple[int, int, int]):
    axes = (0, 1) if shape[0] == 4 else (1, 0)
    known = layout()
    assert told(known, (5, 5, 8), 5, 5) is None
    assert told(known, shape, 4, 6) == axes
    assert known.axes((5, 5, 8), 5, 5) == axes
    assert told(known, (3, 3, 8), 3, 3) == axes


@pytest.mark.parametrize(
    ("shape", "sequences", "tokens", "other"),
    [
        ((4, 8, 8), 4, 8, (5, 7, 8)),  # width and tokens: [4, tokens, width] or [4, width, tokens]
        ((4, 4, 8), 4, 4, (5, 7, 8)),  # texts and tokens
        ((4, 6, 4), 4, 6, (5, 7, 4)),  # texts and width: [4, tokens, width] or [width, tokens, 4]
        ((4, 8, 8, 2), 4, 8, (5, 8, 7, 2)),  # heads and tokens
        ((4, 4, 8, 2), 4, 8, (5, 4, 7, 2)),  # heads and texts
    ],
)
def test_equal_sizes_tell_nothing_alone(
    shape: tuple[int, ...], sequences: int, tokens: int, other: tuple[int, ...]
):
    known = layout(module=nn.Sequential(nn.Linear(8, 8)))
    assert told(known, shape, sequences, tokens) is None
    known.see(other, 5, 7)
    assert known.axes(shape, sequences, tokens) == (0, 1 if len(shape) == 3 else 2)
    with pytest.raises(ShapeError, match="earlier passes"):
        known.see((5, 9, 11, 7)[-len(shape) :], *(5, 7) if len(shape) == 4 else (9, 7))


def bert() -> BertModel:
    config = BertConfig(
        vocab_size=60, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


class Own(nn.Module):
    """A model of transformers, and layers around it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.head, self.lstm = inner, nn.Linear(8, 8), nn.LSTM(8, 8)


def test_modules_that_say_where_their_width_is_are_believed():
    inside = Own(bert())
    for site, is_told in {
        "inner.encoder.layer.0": True,
        "inner.encoder.layer.0.output.dense": True,
        "inner.embeddings.word_embeddings": True,
        "lstm": True,
        "head": False,
    }.items():
        assert width_is_last(inside, site) == is_told, site
        known = Layout(site, inside)
        assert told(known, (4, 8, 8), 4, 8) == ((0, 1) if is_told else None)
        if is_told:
            assert told(Layout(site, inside), (4, 6, 4), 4, 6) == (0, 1)
    convolved = bert()
    convolved.encoder.layer[0].add_module("mixer", nn.Conv1d(8, 8, 1))
    assert not width_is_last(convolved, "encoder.layer.0.output.dense")
    assert told(Layout("encoder.layer.0", convolved), (4, 8, 8), 4, 8) is None


SRC, TGT = Sized(sequences=4, tokens=6, source="src"), Sized(sequences=4, tokens=9, source="tgt")
EQUAL = [replace(SRC, tokens=5), replace(TGT, tokens=5)]


@pytest.mark.parametrize(("length", "place"), [(6, 0), (9, 1)])
def test_sizes_tell_of_which_ids_an_output_is(length: int, place: int):
    known = layout()
    known.see_any((4, 5, 8), EQUAL)
    assert known.choose((4, 5, 8), EQUAL) is None
    known.see_any((4, length, 8), [SRC, TGT])
    assert known.choose((4, length, 8), [SRC, TGT]) == (place, (0, 1))
    assert known.choose((4, 5, 8), EQUAL) == (place, (0, 1))
    assert known.choose((4, 5, 8), EQUAL[::-1]) == (1 - place, (0, 1))
    known.see((3, 4, 8), 3, 4)  # a pass that read one tensor of ids
    with pytest.raises(ShapeError, match="earlier passes"):
        known.see_any((4, 15 - length, 8), [SRC, TGT])


def test_sizes_tell_whether_ids_are_time_first():
    square = [Sized(sequences=4, tokens=4, is_turned=turned) for turned in (False, True)]
    known = layout()
    known.see_any((4, 4, 8), square)
    assert known.choose((4, 4, 8), square) is None
    known.see_any((6, 4, 8), [Sized(sequences=4, tokens=6, is_turned=True)])
    assert known.choose((4, 4, 8), square) == (1, (1, 0))


def test_what_no_pass_tells_is_named():
    error = str(unresolved("a.b", (4, 5, 8), EQUAL, ["src", "tgt"]))
    assert "site 'a.b' gives [4, 5, 8] for 4 sequences of 5 tokens" in error
    assert "of 'src' or of 'tgt'; run a batch in which these have other lengths" in error
    assert 'layout="batch_first"' in str(unresolved("a.b", (4, 4, 8), EQUAL[:1]))


def test_axes_that_the_user_says_are_believed():
    assert told(layout(BATCH_FIRST), (5, 5, 8), 5, 5) == (0, 1)
    with pytest.raises(ShapeError, match=r"\[6, 4, 8\], wanted \[sequences 4, tokens 6"):
        layout(BATCH_FIRST).see((6, 4, 8), 4, 6)


def test_an_output_without_a_row_for_each_token_is_refused():
    for shape in ((4, 5, 8), (4, 8), (24, 8), (4, 1, 8), (8,)):
        with pytest.raises(ShapeError, match="choose another submodule"):
            layout().see(shape, 4, 6)


def test_rows_are_brought_to_the_front_with_their_numbers():
    output = torch.arange(4 * 2 * 6 * 3).reshape(4, 2, 6, 3)
    found = batch_first(output, (0, 2))
    assert found.shape == (4, 6, 6)
    assert torch.equal(found[1, 5], output[1, :, 5].flatten())
    assert torch.equal(batch_first(output, (0, 1)), output.flatten(2))
    assert width_of(output.shape, 4, 6) == 6


def test_tokens_that_a_model_put_behind_the_texts_are_cut_off():
    model = nn.Identity()
    assert own_length(model, 5) == 5
    vars(model)["config"] = SimpleNamespace(attention_window=[4, 8])
    assert [own_length(model, n) for n in (5, 8, 9)] == [8, 8, 16]
    output = torch.randn(2, 8, 3)
    assert torch.equal(without_own_padding(output, 2, 5, 8), output[:, :5])
    for tokens, own in ((8, 8), (5, 16), (5, 5)):
        assert without_own_padding(output, 2, tokens, own) is output


def test_what_is_no_whole_tensor_of_numbers_is_refused(one_process: None):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    whole = DTensor.from_local(torch.ones(2, 3), mesh, [Replicate()])
    assert torch.equal(numbers(whole, "site"), torch.ones(2, 3))
    wrong: list[tuple[Tensor, str]] = [
        (DTensor.from_local(torch.ones(2, 3), mesh, [Shard(0)]), "distributed tensor"),
        (
            torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged),
            "nested tensor",
        ),
        (torch.ones(2, 3, dtype=torch.int64), "int64"),
        (torch.ones(2, 3, device="meta"), "meta"),
        (torch.ones(2, 3).to_sparse(), "sparse"),
    ]
    for output, what in wrong:
        with pytest.raises(InvalidInput, match=f"site 'site' gives .*{what}"):
            numbers(output, "site")


@pytest.fixture
def one_process(tmp_path: Path) -> Generator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()
