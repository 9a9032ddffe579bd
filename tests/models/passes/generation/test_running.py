"""Which call of generate runs, and which tokens of its batch are text."""

import threading

import torch

from isogloss.models.passes.content import SpecialTokens, Tokens
from isogloss.models.passes.generation.running import (
    GenerateCall,
    GeneratedColumns,
    running_generation,
    search_among,
)


def _generation() -> GenerateCall:
    found = running_generation()
    if found is None:
        raise LookupError("none runs")
    return found


def test_functions_within_generate_are_named():
    def _beam_search() -> GenerateCall:
        return _generation()

    def generate() -> GenerateCall:
        return _beam_search()

    assert running_generation() is None
    found = generate()
    assert found.search == "_beam_search"
    assert found.unfinished is None
    assert not found.is_prompt
    assert search_among(("_sample", "generate")) == ""


def test_sequences_that_have_not_ended_are_read_off_the_call():
    def _prefill() -> GenerateCall:
        return _generation()

    def generate() -> tuple[GenerateCall, GenerateCall]:
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
    def generate() -> GenerateCall:
        finished_sequences = torch.tensor([True, False])
        found = _generation()
        del finished_sequences
        return found

    unfinished = generate().unfinished
    assert unfinished is not None
    assert unfinished.tolist() == [False, True]


def test_a_call_in_another_thread_is_not_seen():
    found: list[GenerateCall | None] = []

    def generate() -> None:
        thread = threading.Thread(target=lambda: found.append(running_generation()))
        thread.start()
        thread.join()

    generate()
    assert found == [None]


END, PAD = 2, 0


def tokens(ids: list[list[int]]) -> Tokens:
    found = torch.tensor(ids)
    return SpecialTokens(()).tokens(found, torch.ones_like(found, dtype=torch.bool))


def kept(prompt: int, ids: list[list[int]], pad_id: int | None = None) -> list[list[int]]:
    """Return what is kept of sequences that a loop of one's own has read token by token."""
    whole = tokens(ids)
    columns = GeneratedColumns.of_prompt(tokens([row[:prompt] for row in ids]), None)
    for column in range(prompt, len(ids[0])):
        columns.add(tokens([row[column : column + 1] for row in ids]), None)
    keep = columns.kept(whole, end_ids=[END], pad_id=pad_id)
    return [row[k].tolist() for row, k in zip(whole.ids, keep, strict=True)]


def test_one_repeated_token_behind_an_end_is_padding():
    assert kept(2, [[9, 8, END, 7, 7], [6, 5, 4, 3, 3]]) == [[9, 8, END], [6, 5, 4, 3, 3]]
    assert kept(2, [[9, 8, END, END, END], [6, 5, 4, 3, 3]])[0] == [9, 8, END]


def test_other_tokens_behind_an_end_are_text():
    rows = [[9, 8, END, 7, 6], [6, END, 4, 3, 3]]
    assert kept(2, rows) == rows  # the second has an end in its prompt
    assert kept(2, [[9, 8, END, 7, 7]]) == [[9, 8, END, 7, 7]]  # nobody pads one sequence


def test_the_padding_id_is_padding_at_the_end_alone():
    rows = [[9, 8, 7, PAD, PAD], [6, 5, PAD, 4, 3]]
    assert kept(2, rows, pad_id=PAD) == [[9, 8, 7], [6, 5, PAD, 4, 3]]
    assert kept(2, rows) == rows
    assert kept(2, [[9, 8, END, END], [6, 5, 4, 4]], pad_id=END) == [[9, 8, END], [6, 5, 4, 4]]


def test_what_the_call_tells_decides():
    ids = [[9, 8, 7, 7, 7], [6, END, END, 4, 3]]
    columns: GeneratedColumns | None = None
    for column, alive in ((1, [1, 1]), (2, [0, 1]), (3, [0, 1]), (4, [0, 0])):
        one = tokens([row[:1] if column == 1 else row[column : column + 1] for row in ids])
        running = GenerateCall(
            call=1, search="", is_prompt=column == 1, unfinished=torch.tensor(alive).bool()
        )
        if columns is None:
            columns = GeneratedColumns.of_prompt(tokens([row[:2] for row in ids]), running)
        else:
            columns.add(one, running)
    assert columns is not None
    keep = columns.kept(tokens(ids), end_ids=[END], pad_id=None)
    # a token is text where its sequence had not ended when it was chosen, one pass earlier
    assert keep.tolist() == [[True, True, True, False, False], [True] * 5]
