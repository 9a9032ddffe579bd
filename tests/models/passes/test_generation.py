"""Text generation: one document a sequence."""

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
)

from isogloss.models.passes.generation import running_generation, search_among
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


def test_a_loop_without_a_cache_is_joined_from_its_second_pass_on():
    model = llama()

    def run() -> None:
        ids = IDS[:1]
        with torch.no_grad():
            for _ in range(4):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)

    seen, errors = read(model, SITE, run)
    assert not errors
    assert [[len(d) for d in rows.documents] for rows in seen] == [[5], [8]]
    assert [rows.passes for rows in seen] == [1, 3]


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


def test_functions_within_generate_are_named():
    def _beam_search() -> tuple[str, ...]:
        return running_generation()

    def generate() -> tuple[str, ...]:
        return _beam_search()

    assert running_generation() == ()
    names = generate()
    assert names[-1] == "generate"
    assert search_among(names) == "_beam_search"
    assert search_among(("_sample", "generate")) == ""
