"""Text generation: one document a sequence."""

import copy
import threading
from collections.abc import Callable
from typing import Protocol, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    RwkvConfig,
    RwkvForCausalLM,
    StoppingCriteria,
    XLNetConfig,
    XLNetLMHeadModel,
)

from isogloss.models.passes.reader import PassReader, PassRows

IDS = torch.tensor([[9, 8, 7, 6, 5], [0, 0, 5, 6, 7]])
MASK = (IDS != 0).long()
SITE = "model.layers.1"


class Generates(Protocol):
    def generate(self, **settings: object) -> Tensor: ...


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def read(
    model: nn.Module, site: str, run: Callable[[], object], held_bytes: int = 1 << 20
) -> tuple[list[PassRows], list[str]]:
    seen, errors = list[PassRows](), list[Exception]()
    reader = PassReader(
        model, [site], take=seen.append, leave_out=errors.append, held_bytes=held_bytes
    )
    with reader:
        run()
    return seen, [str(error) for error in errors]


def generate(model: LlamaForCausalLM, **settings: object) -> Callable[[], object]:
    given = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, **settings}
    return lambda: cast("Generates", model).generate(input_ids=IDS, attention_mask=MASK, **given)


def check_alone(model: PreTrainedModel, rows: PassRows) -> None:
    """Compare the rows of each document with the model run on it alone."""
    for index, document in enumerate(rows.documents):
        here = rows.document_index == index
        assert rows.position[here].tolist() == list(range(len(document)))
        assert rows.token_id[here].tolist() == document.tolist()
        with torch.no_grad():
            states = model(
                input_ids=torch.from_numpy(document)[None], output_hidden_states=True
            ).hidden_states
        torch.testing.assert_close(
            rows.sites[SITE][torch.from_numpy(here)], states[1][0], rtol=1e-4, atol=1e-5
        )


WAYS = {
    "cache": {},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "prefill in chunks": {"prefill_chunk_size": 2},
    "several sequences": {"do_sample": True, "num_return_sequences": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_prompt_and_generated_tokens_are_one_document_a_sequence(way: str):
    model = llama()
    last = "model.layers.0"  # of the first layer the states that transformers gives are not normed
    seen, errors = list[PassRows](), list[Exception]()
    with PassReader(model, [last], take=seen.append, leave_out=errors.append):
        generate(model, **WAYS[way])()
        assert not seen
        generate(model, **WAYS[way])()
        assert len(seen) == 1
    assert not errors
    for rows in seen:
        each = 3 if way == "several sequences" else 1
        # of five generated tokens the model reads four
        assert [len(d) for d in rows.documents] == [9] * each + [7] * each
        assert rows.passes >= 5
        renamed = PassRows(
            sites={SITE: rows.sites[last]}, token_id=rows.token_id, position=rows.position,
            document_index=rows.document_index, documents=rows.documents,
        )  # fmt: skip
        check_alone(model, renamed)


def test_tokens_behind_an_end_of_sequence_token_are_padding():
    model = llama()
    made = cast("Generates", model).generate(
        input_ids=IDS, attention_mask=MASK, max_new_tokens=6, do_sample=False
    )
    first, other = made[:, 5].tolist()
    assert first not in made[1]
    model.generation_config.eos_token_id = first
    (rows,), errors = read(model, SITE, generate(model, min_new_tokens=0))
    assert not errors
    assert rows.documents[0].tolist() == [9, 8, 7, 6, 5, first]
    assert rows.documents[1].tolist()[:4] == [5, 6, 7, other]
    assert len(rows.documents[1]) == 7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_beams": 2}, "_beam_search"),
        ({"num_beams": 2, "use_cache": False}, "_beam_search"),
        ({"prompt_lookup_num_tokens": 2}, "_assisted_decoding"),
    ],
)
def test_searches_that_swap_or_take_back_tokens_are_refused_by_name(
    settings: dict[str, object], said: str
):
    model = llama()
    one = {"input_ids": IDS[:1], "attention_mask": MASK[:1], "max_new_tokens": 3, **settings}
    seen, errors = read(model, SITE, lambda: cast("Generates", model).generate(**one))
    assert not seen
    assert errors
    assert all(said in error and "num_beams=1" in error for error in errors)


def loop(
    model: LlamaForCausalLM,
    change: Callable[[DynamicCache, int], None] = lambda cache, turn: None,
    *,
    use_cache: bool | None = True,
) -> Callable[[], None]:
    """Return a loop of one's own that generates with a cache."""

    def run() -> None:
        with torch.no_grad():
            out = model(IDS[:1].repeat(2, 1) + torch.tensor([[0], [9]]), use_cache=use_cache)
            for turn in range(3):
                cache = out.past_key_values
                change(cache, turn)
                out = model(out.logits[:, -1:].argmax(-1), past_key_values=cache)

    return run


def test_a_loop_of_ones_own_with_a_cache_is_one_document_a_sequence():
    model = llama()
    seen, errors = read(model, "model.layers.0", loop(model))
    assert not errors
    assert [[len(d) for d in rows.documents] for rows in seen] == [[8, 8]]
    assert seen[0].passes == 4


def swap(cache: DynamicCache, turn: int) -> None:
    if turn == 1:
        cache.reorder_cache(cast("torch.LongTensor", torch.tensor([1, 0])))


def cut(cache: DynamicCache, turn: int) -> None:
    if turn == 1:
        cache.crop(-2)


@pytest.mark.parametrize(("change", "said"), [(swap, "swapped"), (cut, "cut from 6 to 4 tokens")])
def test_a_cache_that_was_changed_meanwhile_is_noticed(
    change: Callable[[DynamicCache, int], None], said: str
):
    model = llama()
    seen, errors = read(model, SITE, loop(model, change))
    assert not seen
    assert len(errors) == 4  # one for each pass
    assert all(said in error for error in errors)


def test_a_continuation_whose_beginning_was_not_seen_is_refused():
    model = llama()
    seen, errors = read(model, SITE, loop(model, use_cache=None))
    assert [len(d) for d in seen[0].documents] == [5, 5]  # the prompt, a document by itself
    assert len(errors) == 3
    assert all("use_cache=True" in error for error in errors)
    with torch.no_grad():
        cache = model(IDS).past_key_values
        seen, errors = read(
            model, SITE, lambda: model(torch.tensor([[5], [6]]), past_key_values=cache)
        )
    assert not seen
    assert len(errors) == 1


def test_longer_texts_of_a_model_that_looks_both_ways_stay_documents_of_their_own():
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, initializer_range=0.5,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip

    def run() -> None:
        with torch.no_grad():
            for length in (2, 3, 4, 5):
                model(IDS[:1, :length])

    seen, errors = read(model, "encoder.layer.1", run)
    assert not errors
    assert [len(d) for rows in seen for d in rows.documents] == [2, 3, 4, 5]


def test_a_generation_larger_than_what_may_be_held_is_left_out_by_name():
    model = llama()
    seen, errors = read(model, SITE, generate(model), held_bytes=1_000)
    assert not seen
    assert len(errors) == 5
    assert all("more than held_bytes 1000" in error for error in errors)
    seen, errors = read(model, SITE, generate(model), held_bytes=2_000)
    assert len(seen) == 1
    assert not errors


def test_a_decoder_generates_one_document_of_the_ids_that_it_read():
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).eval()
    made: list[Tensor] = []
    (rows,), errors = read(
        model,
        "model.decoder.layers.0",
        lambda: made.append(
            cast("Generates", model).generate(
                input_ids=IDS[:1], max_new_tokens=5, min_new_tokens=5, do_sample=False, num_beams=1
            )
        ),
    )
    assert not errors
    assert rows.documents[0].tolist() == made[0][0, :-1].tolist()


def test_a_recurrent_model_without_keys_generates_one_document():
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = MambaForCausalLM(config).eval()
    (rows,), errors = read(
        model,
        "backbone.layers.0",
        lambda: cast("Generates", model).generate(
            input_ids=IDS[:1], max_new_tokens=4, min_new_tokens=4, do_sample=False
        ),
    )
    assert not errors
    assert [len(d) for d in rows.documents] == [8]


# Several texts at once: a pass is joined to the text whose cache it was given.

FIRST = "model.layers.0"  # of the last layer the states that transformers gives are normed
TEXTS = torch.tensor([[9, 8, 7, 6], [5, 4, 3, 11]])


def check_first_layer(model: LlamaForCausalLM, seen: list[PassRows]) -> list[list[int]]:
    """Compare the rows of each document with the model run on it alone; return the documents."""
    for rows in seen:
        for index, document in enumerate(rows.documents):
            here = rows.document_index == index
            assert rows.token_id[here].tolist() == document.tolist()
            assert rows.position[here].tolist() == list(range(len(document)))
            ids = torch.from_numpy(document)[None]
            with torch.no_grad():
                states = model(input_ids=ids, output_hidden_states=True).hidden_states
            torch.testing.assert_close(
                rows.sites[FIRST][torch.from_numpy(here)], states[1][0], rtol=1e-4, atol=1e-5
            )
    return sorted(document.tolist() for rows in seen for document in rows.documents)


class Chat:
    """One text that is gone on with token by token."""

    def __init__(self, model: LlamaForCausalLM, ids: Tensor, *, own: bool = False) -> None:
        self.model, self.read = model, ids.tolist()
        cache = DynamicCache(config=model.config) if own else None
        self.cache = model(ids, past_key_values=cache, use_cache=True).past_key_values

    def go_on(self, *tokens: int) -> "Chat":
        self.read = [[*row, *tokens] for row in self.read]
        self.model(torch.tensor([tokens] * len(self.read)), past_key_values=self.cache)
        return self


@pytest.mark.parametrize("own", [True, False], ids=["caches of one's own", "caches given back"])
def test_texts_that_are_gone_on_with_in_turn_are_one_document_each(own: bool):
    model, wanted = llama(), list[list[int]]()

    def run() -> None:
        with torch.no_grad():
            chats = [Chat(model, TEXTS[i : i + 1], own=own) for i in range(2)]
            for token in (12, 13, 14):
                for chat in chats:
                    chat.go_on(token, token + 20)
            chats[1].go_on(7)
            chats[0].go_on(8)
            wanted.extend(row for chat in chats for row in chat.read)

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == sorted(wanted)


def test_caches_that_were_exchanged_join_each_text_to_its_own():
    model, wanted = llama(), list[list[int]]()

    def run() -> None:
        with torch.no_grad():
            one, two = Chat(model, TEXTS[:1]), Chat(model, TEXTS[1:])
            one.cache, two.cache = two.cache, one.cache
            one.go_on(12).go_on(13)
            two.go_on(14)
            wanted.extend([[*TEXTS[1].tolist(), 12, 13], [*TEXTS[0].tolist(), 14]])

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == sorted(wanted)


def test_a_text_that_goes_on_from_copies_of_its_cache_is_a_document_each_time():
    model, wanted = llama(), list[list[int]]()

    def run() -> None:
        with torch.no_grad():
            start = Chat(model, TEXTS[:1])
            for token in (12, 13):
                one = copy.copy(start)
                one.cache = copy.deepcopy(start.cache)
                wanted.extend(one.go_on(token).go_on(token + 1).read)
            wanted.extend(start.go_on(14).read)

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == sorted(wanted)


def test_a_cache_that_is_copied_before_each_pass_goes_on_as_one_document():
    model = llama()

    def run() -> None:
        with torch.inference_mode():
            chat = Chat(model, TEXTS[:1])
            for token in (12, 13, 14):
                chat.cache = copy.deepcopy(chat.cache)
                chat.go_on(token)

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == [[*TEXTS[0].tolist(), 12, 13, 14]]


def test_turns_of_generate_with_one_cache_are_one_document():
    model, turns = llama(), list[list[int]]()

    def run() -> None:
        cache, ids = DynamicCache(config=model.config), TEXTS[:1]
        for turn in range(2):
            ids = cast("Generates", model).generate(
                input_ids=ids, past_key_values=cache, max_new_tokens=2, min_new_tokens=2,
                do_sample=False,
            )  # fmt: skip
            turns.append(ids[0, :-1].tolist())
            ids = torch.cat([ids, torch.tensor([[30 + turn, 31]])], 1)

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == [turns[-1]]


def test_a_copy_of_a_cache_that_went_on_meanwhile_is_refused():
    model = llama()

    def run() -> None:
        with torch.no_grad():
            start = Chat(model, TEXTS[:1])
            one = copy.copy(start)
            one.cache = copy.deepcopy(start.cache)
            start.go_on(12)
            one.go_on(13)

    seen, errors = read(model, FIRST, run)
    assert check_first_layer(model, seen) == [[*TEXTS[0].tolist(), 12]]
    assert len(errors) == 1
    assert "another pass went on meanwhile" in errors[0]


def widen(cache: DynamicCache) -> None:
    cache.batch_repeat_interleave(2)


def narrow(cache: DynamicCache) -> None:
    cache.batch_select_indices(torch.tensor([1]))


@pytest.mark.parametrize(("change", "sequences"), [(widen, 4), (narrow, 1)])
def test_a_cache_of_more_or_fewer_sequences_ends_the_documents(
    change: Callable[[DynamicCache], None], sequences: int
):
    model = llama()

    def run() -> None:
        with torch.no_grad():
            chat = Chat(model, TEXTS).go_on(12)
            change(chat.cache)
            chat.read = chat.read * 2 if sequences == 4 else chat.read[1:]
            chat.go_on(13).go_on(14)

    seen, errors = read(model, FIRST, run)
    assert check_first_layer(model, seen) == sorted([*row, 12] for row in TEXTS.tolist())
    assert len(errors) == 2
    assert f"of 2 sequences, and a pass of {sequences}" in errors[0]


def test_sequences_that_end_alike_are_noticed_when_they_are_swapped_in_one_layer():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()

    def run() -> None:
        with torch.no_grad():
            chat = Chat(model, TEXTS).go_on(12)  # the keys of the last tokens are equal
            chat.cache.reorder_cache(cast("torch.LongTensor", torch.tensor([1, 0])))
            chat.go_on(13)

    seen, errors = read(model, FIRST, run)
    assert not seen
    assert len(errors) == 3
    assert all("swapped" in error for error in errors)


class Tuples(nn.Module):
    """A model whose cache is tuples of keys and values, made anew by each pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix = nn.Embedding(60, 8), nn.Linear(8, 8)

    def forward(
        self, input_ids: Tensor, past_key_values: tuple[tuple[Tensor, Tensor], ...] | None = None,
        use_cache: bool = True,
    ) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:  # fmt: skip
        keys = self.embed(input_ids)[:, None]
        if past_key_values is not None:
            keys = torch.cat([past_key_values[0][0], keys], 2)
        sums = keys.cumsum(2)[:, 0, -input_ids.shape[1] :]
        return self.mix(sums), ((keys, keys),)


def test_caches_of_tuples_join_each_text_to_its_own():
    model = Tuples().eval()

    def run() -> None:
        with torch.no_grad():
            caches = [model(TEXTS[i : i + 1], use_cache=True)[1] for i in range(2)]
            for token in (12, 13):
                for i in (0, 1):
                    caches[i] = model(torch.tensor([[token + i]]), past_key_values=caches[i])[1]

    seen, errors = read(model, "mix", run)
    assert not errors
    found = sorted(document.tolist() for rows in seen for document in rows.documents)
    assert found == sorted([[*TEXTS[0].tolist(), 12, 13], [*TEXTS[1].tolist(), 13, 14]])
    for rows in seen:
        with torch.no_grad():
            alone = model(torch.from_numpy(rows.documents[0])[None])[0][0]
        torch.testing.assert_close(rows.sites["mix"], alone)


def recurrent() -> dict[str, tuple[PreTrainedModel, str, str, dict[str, object]]]:
    torch.manual_seed(0)
    mamba = MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, state_size=4)
    rwkv = RwkvConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, context_length=64)
    xlnet = XLNetConfig(vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=32, mem_len=32)
    return {
        "mamba": (MambaForCausalLM(mamba), "backbone.layers.1", "cache_params", {}),
        "rwkv": (RwkvForCausalLM(rwkv), "rwkv.blocks.1", "state", {}),
        "xlnet": (XLNetLMHeadModel(xlnet), "transformer.layer.1", "mems", {"use_mems": True}),
    }


@pytest.mark.parametrize("kind", ["mamba", "rwkv", "xlnet"])
def test_recurrent_states_join_each_text_to_its_own_or_are_refused(kind: str):
    model, site, name, more = recurrent()[kind]
    model.eval()

    def run() -> None:
        with torch.no_grad():
            states = [model(TEXTS[i : i + 1], use_cache=True, **more)[name] for i in range(2)]
            for token in (12, 13):
                for i in (0, 1):
                    ids = torch.tensor([[token + i]])
                    states[i] = model(ids, **{name: states[i]}, use_cache=True, **more)[name]

    seen, errors = read(model, site, run)
    found = sorted(document.tolist() for rows in seen for document in rows.documents)
    assert found == sorted([[*TEXTS[0].tolist(), 12, 13], [*TEXTS[1].tolist(), 13, 14]])
    assert not errors


@pytest.mark.parametrize("kind", ["mamba", "rwkv", "xlnet"])
def test_a_recurrent_state_whose_beginning_was_not_seen_is_refused(kind: str):
    model, site, name, more = recurrent()[kind]
    model.eval()
    with torch.no_grad():
        state = model(TEXTS[:1], use_cache=True, **more)[name]

    def run() -> None:
        with torch.no_grad():
            model(torch.tensor([[5]]), **{name: state}, use_cache=True, **more)

    seen, errors = read(model, site, run)
    assert not seen
    assert len(errors) == 1
    assert "not seen as the beginning" in errors[0]


def test_threads_that_generate_at_once_do_not_cut_documents():
    model, start = llama(), threading.Barrier(2)
    read_: list[list[int]] = []

    def chat(i: int) -> None:
        with torch.no_grad():
            start.wait(60)
            one = Chat(model, TEXTS[i : i + 1])
            for token in range(12, 20):
                one.go_on(token + i)
            made = cast("Generates", model).generate(
                input_ids=TEXTS[i : i + 1] + 20, max_new_tokens=6, min_new_tokens=6,
                do_sample=False, use_cache=bool(i),
            )  # fmt: skip
            read_.extend([*one.read, *made[:, :-1].tolist()])

    def run() -> None:
        threads = [threading.Thread(target=chat, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == sorted(read_)


def test_texts_beyond_what_may_be_held_are_given_and_their_continuation_refused():
    model = llama()

    def run() -> None:
        with torch.no_grad():
            chats = [Chat(model, TEXTS[:1] + i) for i in range(4)]
            for chat in chats:
                chat.go_on(12)

    seen, errors = read(model, FIRST, run, held_bytes=700)  # two of 4 tokens, 16 wide, 4 bytes
    assert check_first_layer(model, seen) == sorted(
        [*(TEXTS[0] + i).tolist(), *[12] * (i > 1)] for i in range(4)
    )
    assert len(errors) == 2


# A pass without a cache is of documents of its own.


def test_growing_prefixes_are_documents_of_their_own():
    model = llama()

    def run() -> None:
        with torch.no_grad():
            for length in range(1, 6):
                model(IDS[:1, :length])
            ids = IDS[:1]
            for _ in range(3):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)

    seen, errors = read(model, FIRST, run)
    assert not errors
    check_first_layer(model, seen)
    assert [len(d) for rows in seen for d in rows.documents] == [1, 2, 3, 4, 5, 5, 6, 7]
    assert [rows.passes for rows in seen] == [1] * 8


def test_prefixes_that_are_each_gone_on_with_by_generate_are_documents_of_their_own():
    model = llama()

    def run() -> None:
        for length in (3, 4, 5):
            cast("Generates", model).generate(
                input_ids=IDS[:1, :length], max_new_tokens=2, min_new_tokens=2, use_cache=False,
                do_sample=False,
            )  # fmt: skip

    seen, errors = read(model, FIRST, run)
    assert not errors
    check_first_layer(model, seen)
    assert [len(d) for rows in seen for d in rows.documents] == [4, 5, 6]


# Where a sequence ends, the call of generate says.


class After(StoppingCriteria):
    """Ends the first sequence at a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: Tensor, scores: object, **rest: object) -> torch.BoolTensor:
        is_first = torch.arange(len(input_ids)) == 0
        return cast("torch.BoolTensor", is_first & (input_ids.shape[1] >= self.length))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("way", ["eos", "eos and pad", "config", "criteria"])
def test_what_generate_fills_a_batch_with_is_no_text_whatever_ends_a_sequence(
    way: str, use_cache: bool
):
    model = llama()
    made = cast("Generates", model).generate(
        input_ids=IDS, attention_mask=MASK, max_new_tokens=6, do_sample=False
    )
    third = made[0, 7].item()
    assert third not in (*made[0, :7].tolist(), *made[1].tolist())
    own = copy.deepcopy(model.generation_config)
    own.eos_token_id, own.pad_token_id, own.max_new_tokens, own.do_sample = third, 30, 6, False
    settings: dict[str, dict[str, object]] = {
        "eos": {"eos_token_id": third},
        "eos and pad": {"eos_token_id": [third], "pad_token_id": 30},
        "config": {"generation_config": own},
        "criteria": {"stopping_criteria": [After(8)]},
    }
    given = {"max_new_tokens": 6, "do_sample": False} if way != "config" else {}

    def run() -> None:
        cast("Generates", model).generate(
            input_ids=IDS, attention_mask=MASK, use_cache=use_cache, **given, **settings[way]
        )

    seen, errors = read(model, FIRST, run)
    assert not errors
    last = 9 if way == "criteria" else 10  # there the second sequence ends too, and all is over
    wanted = [made[0, :8].tolist(), made[1, 2:last].tolist()]
    assert check_first_layer(model, seen) == sorted(wanted)


def test_an_end_of_sequence_that_the_caller_goes_on_from_is_text():
    model = llama()
    tokens = [[9, 8, 2, 7, 2, 6], [5, 2, 2, 2, 2, 2]]

    def run() -> None:
        with torch.no_grad():
            cache = model(torch.tensor(tokens)[:, :1], use_cache=True).past_key_values
            for column in range(1, 6):
                model(torch.tensor(tokens)[:, column : column + 1], past_key_values=cache)

    seen, errors = read(model, FIRST, run)
    assert not errors
    assert check_first_layer(model, seen) == sorted([tokens[0], [5, 2]])
