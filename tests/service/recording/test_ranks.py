"""Ranks that torchrun starts record what one process records, also where one of them is killed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from capture_figures import rank_loop
from capture_figures.rank_loop import WRAPPERS, Plan
from capture_figures.ranks_exact import Row, rows_of, run_ranks, served
from torch import Tensor, nn

import isogloss


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    store = tmp_path_factory.mktemp("ranks") / "store"
    with served(store) as address:
        yield store, address


def one_process(place: tuple[Path, str], plan: Plan) -> frozenset[Row]:
    """The rows of a single process that reads all ranks' batches; recorded here, over TCP."""
    store, address = place
    recording = f"one-of-{plan.ranks}-{plan.steps}"
    alone = replace(plan, address=address, recording=recording, wrapper="one", direct=False)
    alone = replace(alone, kill=None, saved="")
    token = (store / "token").read_text().strip()
    with isogloss.connect(address, token=token) as client:
        rank_loop.record(alone, client)
    rows, count = rows_of(store, recording)
    assert len(rows) == count
    return rows


def check(place: tuple[Path, str], plan: Plan) -> None:
    store, address = place
    wanted = one_process(place, plan)
    ended = run_ranks(replace(plan, address=address), store)
    assert not ended.error, ended.error
    assert ended.lives["1"] == plan.ranks
    assert set(ended.first_steps) == {2 if plan.saved else 0}
    rows, count = rows_of(store, plan.recording)
    assert rows == wanted
    assert count == len(wanted)


def test_a_rank_that_is_killed_and_started_again_stores_each_row_once(
    place: tuple[Path, str],
) -> None:
    plan = Plan(
        address="", recording="two", wrapper="ddp", ranks=2, steps=3,
        kill=1, kill_step=1, kill_after_s=0.002,
    )  # fmt: skip
    check(place, plan)


@pytest.mark.slow
@pytest.mark.parametrize("direct", [False, True], ids=["tcp", "direct"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_ranks_of_each_wrapper_store_the_rows_of_one_process(
    place: tuple[Path, str], wrapper: str, direct: bool, tmp_path: Path
) -> None:
    plan = Plan(
        address="", recording=f"{wrapper}-{direct}".lower(), wrapper=wrapper, direct=direct,
        kill=2, kill_step=3, kill_after_s=0.004, saved=str(tmp_path / "saved") if direct else "",
    )  # fmt: skip
    check(place, plan)


def keep_in(seen: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda module, args, output: seen.append(output.detach().double())


def test_all_sums_of_the_loop_are_exact() -> None:
    found: list[list[Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        model = rank_loop.Exact().to(dtype)
        seen: list[Tensor] = []
        for site in rank_loop.SITES:
            model.get_submodule(site).register_forward_hook(keep_in(seen))
        for step in range(6):
            for rank in range(4):
                batch = rank_loop.padded(rank_loop.texts(step, rank))
                rank_loop.loss_of(model(**batch)).backward()
            seen += [p.grad.double() for p in model.parameters() if p.grad is not None]
            rank_loop.move(model, step)
        found.append(seen)
    assert len(found[0]) == 6 * (4 * 2 + 5)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
