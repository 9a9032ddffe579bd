"""Which call of generate runs."""

import threading

import torch

from isogloss.models.passes.running import Running, running_generation, search_among


def _generation() -> Running:
    found = running_generation()
    if found is None:
        raise LookupError("none runs")
    return found


def test_functions_within_generate_are_named():
    def _beam_search() -> Running:
        return _generation()

    def generate() -> Running:
        return _beam_search()

    assert running_generation() is None
    found = generate()
    assert found.search == "_beam_search"
    assert found.unfinished is None
    assert not found.is_prompt
    assert search_among(("_sample", "generate")) == ""


def test_sequences_that_have_not_ended_are_read_off_the_call():
    def _prefill() -> Running:
        return _generation()

    def generate() -> tuple[Running, Running]:
        unfinished_sequences = torch.tensor([1, 0])
        first = _prefill()
        unfinished_sequences[0] = 0  # what was read is a copy
        return first, _generation()

    first, second = generate()
    assert first.is_prompt
    assert first.call == second.call
    assert first.unfinished is not None
    assert second.unfinished is not None
    assert first.unfinished.tolist() == [True, False]
    assert second.unfinished.tolist() == [False, False]


def test_finished_sequences_of_transformer_lens_are_read_the_other_way():
    def generate() -> Running:
        finished_sequences = torch.tensor([True, False])
        found = _generation()
        del finished_sequences
        return found

    unfinished = generate().unfinished
    assert unfinished is not None
    assert unfinished.tolist() == [False, True]


def test_a_call_in_another_thread_is_not_seen():
    found: list[Running | None] = []

    def generate() -> None:
        thread = threading.Thread(target=lambda: found.append(running_generation()))
        thread.start()
        thread.join()

    generate()
    assert found == [None]
