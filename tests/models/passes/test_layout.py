"""Axes of a site's output."""

from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.passes.layout import (
    BATCH_FIRST,
    Layout,
    batch_first,
    numbers,
    own_length,
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
    assert told(layout(), (4, 8, 6), 4, 6) == (0, 2)  # channels first
    assert told(layout(), (4, 2, 6, 8), 4, 6) == (0, 2)  # heads first
    assert told(layout(), (4, 6, 2, 8), 4, 6) == (0, 1)


def test_axes_of_one_make_no_difference():
    assert told(layout(), (1, 1, 8), 1, 1) == (0, 1)
    assert told(layout(), (1, 6, 1), 1, 6) == (0, 1)
    assert told(layout(), (1, 1, 6, 8), 1, 6) in {(0, 2), (1, 2)}


@pytest.mark.parametrize("shape", [(4, 6, 8), (6, 4, 8)])
def test_equal_sizes_are_told_apart_by_another_pass(shape: tuple[int, int, int]):
    axes = (0, 1) if shape[0] == 4 else (1, 0)
    known = layout()
    assert told(known, (5, 5, 8), 5, 5) is None
    assert told(known, shape, 4, 6) == axes
    assert known.axes((5, 5, 8), 5, 5) == axes
    assert told(known, (3, 3, 8), 3, 3) == axes


def test_a_width_as_large_as_the_tokens_is_probable_where_nothing_swaps_them():
    assert told(layout(), (4, 8, 8), 4, 8) == (0, 1)
    assert told(layout(module=nn.Sequential(nn.Conv1d(8, 8, 1))), (4, 8, 8), 4, 8) is None
    assert told(layout(), (4, 8, 8, 2), 4, 8) is None  # as many heads as tokens
    sure = layout()
    sure.see((4, 8, 8), 4, 8)
    assert sure.axes((4, 8, 8), 4, 8, probable=False) is None
    assert told(sure, (4, 6, 8), 4, 6) == (0, 1)
    with pytest.raises(ShapeError, match="earlier passes"):
        sure.see((4, 8, 7), 4, 7)


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
