"""Calls of sites within passes."""

import copy
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isogloss.errors import Conflict, InvalidInput, UnknownSite
from isogloss.models.passes.calls import Pass, PassCalls


class Steps(nn.Module):
    """One layer that runs several times, and may be run within itself."""

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table, self.layer, self.steps = nn.Embedding(20, 4), nn.Linear(4, 4), steps
        self.fails, self.again, self.checkpoints = False, False, False

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids)
        for _ in range(self.steps):
            x = (
                checkpoint(self.layer, x, use_reentrant=False)
                if self.checkpoints
                else self.layer(x)
            )
        if self.fails:
            raise KeyboardInterrupt
        if self.again:
            self.again = False
            self(input_ids[:, :1])
            self.again = True
        return x


IDS = torch.tensor([[1, 2, 3]])


def states(model: Steps) -> list[Tensor]:
    found = [model.table(IDS)]
    for _ in range(model.steps):
        found.append(model.layer(found[-1]))
    return found[1:]


@pytest.mark.parametrize("call", [0, 1, 3, -1, -2, -4])
def test_one_of_several_calls_is_chosen(call: int):
    model = Steps(4)
    with PassCalls(model, ["layer"], call=call) as calls:
        done = calls.run(IDS)
    assert torch.equal(done.site("layer", call).output, states(model)[call])


def test_several_calls_without_a_choice_are_refused_with_their_number():
    with (
        PassCalls(Steps(4), ["layer"]) as calls,
        pytest.raises(
            InvalidInput, match=r"called 4 times in one pass; choose .* call=, from 0 to 3"
        ),
    ):
        calls.run(IDS).site("layer", None)
    for call in (4, -5):
        with (
            PassCalls(Steps(4), ["layer"], call=call) as calls,
            pytest.raises(InvalidInput, match=f"called 4 times in one pass, and call is {call}"),
        ):
            calls.run(IDS).site("layer", call)


def test_a_site_that_no_call_reached_is_refused():
    with PassCalls(Steps(0), ["layer"]) as calls, pytest.raises(InvalidInput, match="not reached"):
        calls.run(IDS).site("layer", None)


def test_layers_run_again_in_the_backward_pass_do_not_count():
    model, passes = Steps(2), list[Pass | None]()
    model.checkpoints = True
    with PassCalls(model, ["layer"], call=-1, on_pass=passes.append):
        for _ in range(2):
            model(IDS).sum().backward()
        checkpoint(model, IDS, use_reentrant=False).sum().backward()
    assert [done.counts["layer"] for done in passes if done is not None] == [2, 2, 2]


def test_what_runs_outside_of_a_pass_of_the_model_is_left_alone():
    model, passes = Steps(), list[Pass | None]()
    with PassCalls(model, ["layer"], on_pass=passes.append):
        model.layer(torch.ones(1, 2, 4))
        model(IDS)
        model.layer(torch.ones(1, 2, 4))
    (done,) = passes
    assert done is not None
    assert done.counts == {"layer": 1}


def test_a_pass_within_a_pass_is_one_of_its_own_and_the_outer_is_none():
    model, passes = Steps(), list[Pass | None]()
    model.again = True
    with PassCalls(model, ["layer"], on_pass=passes.append):
        model(IDS)
        model.again = False
        model(IDS)
    inner, outer, last = passes
    assert outer is None
    for done, tokens in ((inner, 1), (last, 3)):
        assert done is not None
        assert done.site("layer", None).output.shape == (1, tokens, 4)


def test_an_interrupted_pass_is_no_pass_and_leaves_the_next_one_whole():
    model, passes = Steps(), list[Pass | None]()
    with PassCalls(model, ["layer"], on_pass=passes.append):
        model.fails = True
        with pytest.raises(KeyboardInterrupt):
            model(IDS)
        model.fails = False
        model(IDS)
    (done,) = passes
    assert done is not None
    assert done.counts == {"layer": 1}


def test_each_thread_has_passes_of_its_own():
    model, passes = Steps(), list[Pass | None]()
    entered, gate = threading.Event(), threading.Event()

    def waits(module: nn.Module, args: tuple[object, ...]) -> None:
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            gate.wait(60)

    with PassCalls(model, ["layer"], on_pass=passes.append):
        handle = model.layer.register_forward_pre_hook(waits)
        thread = threading.Thread(target=model, args=(IDS[:, :2],))
        thread.start()
        assert entered.wait(60)
        model(IDS)
        gate.set()
        thread.join()
        handle.remove()
    shapes = [done.site("layer", None).output.shape[1] for done in passes if done is not None]
    assert shapes == [3, 2]


def test_a_copy_of_the_model_made_meanwhile_is_not_read():
    model, passes = Steps(), list[Pass | None]()
    with PassCalls(model, ["layer"], on_pass=passes.append):
        other = copy.deepcopy(model)
        other(IDS)
        assert not passes
        model(IDS)
    assert len(passes) == 1


def test_passes_end_behind_the_last_site_once_it_is_known():
    model = Steps(2)
    ended: list[int] = []

    def ends(*args: object) -> None:
        ended.append(1)

    handle = model.register_forward_hook(ends)
    with PassCalls(model, ["layer"], call=1, stop_early=True) as calls:
        found = [calls.run(IDS).site("layer", 1).output for _ in range(3)]
    handle.remove()
    assert len(ended) == 1
    assert all(torch.equal(output, states(model)[1]) for output in found)


def test_hooks_are_set_once_and_go():
    model = Steps()
    with pytest.raises(UnknownSite, match="nearest: layer"):
        PassCalls(model, ["layre"])
    calls = PassCalls(model, ["layer"])
    with calls, pytest.raises(Conflict, match="make a second"):
        calls.__enter__()
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


class Towers(nn.Module):
    """One encoder that reads two texts."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Steps()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.encoder(first).sum() * self.encoder(second).sum()


@pytest.mark.parametrize("call", [0, 1])
def test_a_call_has_the_ids_that_the_stack_around_it_read(call: int):
    model, texts = Towers(), (IDS, torch.tensor([[7, 8]]))
    with PassCalls(model, ["encoder.layer"], call=call) as calls:
        done = calls.run(*texts)
    found = done.site("encoder.layer", call)
    (source,) = done.sources("encoder.layer", found)
    assert torch.equal(source.ids, texts[call])
    assert torch.equal(found.output, model.encoder(texts[call]))
