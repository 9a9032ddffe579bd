"""Reading the forward passes of a live module."""

import copy
import logging
import re
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartModel,
    BertConfig,
    BertModel,
    FSMTConfig,
    FSMTModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LongformerConfig,
    LongformerModel,
    OPTConfig,
    OPTModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

from isogloss.errors import InvalidInput, IsoglossError, UnknownSite
from isogloss.models.passes import order_watch
from isogloss.models.passes.reader import PassReader, PassRows
from isogloss.models.resolve import find_sites


class Layers(nn.Module):
    """A layer over an embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = nn.Embedding(50, 12)
        self.layer = nn.Linear(12, 8)
        self.skips, self.transposes, self.hides = False, False, False


class Tiny(Layers):
    """Takes what Hugging Face models take."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cut: bool = False,
    ) -> Tensor:
        x = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        x = x[:, 1:] if cut else x
        x = x.transpose(0, 1) if self.transposes else x
        if self.hides:  # no axes are followed through it
            x = torch.from_numpy(x.detach().numpy().copy())
        return x if self.skips else self.layer(x)


def believed(module: nn.Module) -> bool:
    """Stand for what tells models of transformers, whose order is believed."""
    return True


def read(
    module: nn.Module,
    sites: str | Sequence[str],
    run: Callable[[], object],
    *,
    special_ids: Iterable[int] = (),
    pad_id: int | None = None,
    call: int | None = None,
    layout: Literal["batch_first"] | None = None,
    held_bytes: int = 1 << 20,
    step: Callable[[], int] | None = None,
) -> tuple[list[PassRows], list[Exception]]:
    seen, errors = list[PassRows](), list[Exception]()
    names = [sites] if isinstance(sites, str) else sites
    reader = PassReader(
        module, names, take=seen.append, leave_out=errors.append, special_ids=special_ids,
        pad_id=pad_id, call=call, layout=layout, held_bytes=held_bytes, step=step,
    )  # fmt: skip
    with reader:
        run()
    assert all(isinstance(error, IsoglossError) for error in errors)
    return seen, errors


IDS = torch.tensor([[9, 8, 7, 6, 5], [5, 6, 7, 0, 0]])
MASK = (IDS != 0).long()


def test_a_pass_gives_the_rows_of_its_tokens_without_padding_and_special_tokens() -> None:
    model = Tiny()
    ids = torch.tensor([[1, 7, 8, 2], [1, 9, 2, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    seen, errors = read(
        model, "layer", lambda: model(input_ids=ids, attention_mask=mask), special_ids=(1, 2)
    )
    out = model(input_ids=ids)
    (rows,) = seen
    assert not errors
    assert rows.token_id.tolist() == [7, 8, 9]
    assert rows.position.tolist() == [0, 1, 0]
    assert rows.document_index.tolist() == [0, 0, 1]
    assert [document.tolist() for document in rows.documents] == [[1, 7, 8, 2], [1, 9, 2]]
    assert (rows.is_training, rows.passes, rows.step) == (True, 1, 0)
    wanted = torch.stack([out[0, 1], out[0, 2], out[1, 1]])
    np.testing.assert_array_equal(rows.sites["layer"].numpy(), wanted.detach().numpy())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def test_a_mask_is_read_by_name_by_position_and_in_every_form() -> None:
    model = bert()
    additive = torch.zeros(2, 1, 5, 5).masked_fill(MASK[:, None, None, :] == 0, -1e9)
    seen, errors = read(
        model,
        "encoder.layer.0",
        lambda: (
            model(input_ids=IDS, attention_mask=MASK),
            model(IDS, MASK),
            model(input_ids=IDS, attention_mask=additive),
            model(IDS, attention_mask=MASK.bool()),
        ),
    )
    assert not errors
    for rows in seen:
        assert [d.tolist() for d in rows.documents] == [[9, 8, 7, 6, 5], [5, 6, 7]]
        torch.testing.assert_close(rows.sites, seen[0].sites)


def test_left_padding_equals_right_and_alone_equals_batched() -> None:
    torch.manual_seed(0)
    model = GPT2Model(
        GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    ).eval()
    left = torch.tensor([[9, 8, 7, 6, 5], [0, 0, 5, 6, 7]])
    places = (((left != 0).cumsum(1)) - 1).clamp(min=0)
    seen, errors = read(
        model,
        "h.0",
        lambda: (
            model(input_ids=IDS, attention_mask=MASK),
            model(input_ids=left, attention_mask=(left != 0).long(), position_ids=places),
            model(input_ids=IDS[1:, :3]),
        ),
    )
    assert not errors
    right, padded, alone = seen
    assert right.position.tolist() == padded.position.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert alone.position.tolist() == [0, 1, 2]
    for rows in seen:
        assert rows.documents[-1].tolist() == [5, 6, 7]
        torch.testing.assert_close(rows.sites["h.0"][-3:], alone.sites["h.0"], rtol=0, atol=1e-5)


ODD: dict[str, tuple[Callable[[Tiny], object], str]] = {
    "no token ids": (lambda m: m(inputs_embeds=torch.zeros(1, 3, 12)), "nothing for token ids"),
    "a site one token shorter": (lambda m: m(input_ids=IDS, cut=True), r"gives \[2, 4, 8\]"),
    "ids of one dimension": (lambda m: m(input_ids=IDS[0]), r"took torch.int64 \[5\]"),
    "a mask that does not fit": (lambda m: m(IDS, MASK[:1]), "does not fit"),
    "a mask that is no tensor": (lambda m: m(IDS, "causal"), "is a str"),
    "a mask of other numbers": (lambda m: m(IDS, -MASK), "from -1 to 0"),
}


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_pass_is_left_out_and_those_before_and_after_it_are_kept(odd: str) -> None:
    model, (run, said) = Tiny(), ODD[odd]

    def loop() -> None:
        for i in range(6):
            if i == 3:
                run(model)
            model(input_ids=torch.tensor([[10 + i, 2, 3]]))

    seen, errors = read(model, "layer", loop)
    firsts = [int(rows.token_id[0]) for rows in seen]
    assert [first for first in firsts if first >= 10 and first < 20] == [10, 11, 12, 13, 14, 15]
    (error,) = errors
    assert re.search(said, str(error)), str(error)


def test_passes_that_skip_the_layer_are_left_out_one_by_one() -> None:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=60, hidden_size=16, word_embed_proj_dim=16, ffn_dim=16, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=64, layerdrop=0.3,
    )  # fmt: skip
    model, reached = OPTModel(config).train(), list[int]()

    def reaches(*args: object) -> None:
        reached.append(1)

    def loop() -> None:
        model.decoder.layers[1].register_forward_hook(reaches)
        for i in range(40):
            model(input_ids=torch.tensor([[i + 3, 5, 6, 7]]))

    seen, errors = read(model, "decoder.layers.1", loop)
    assert 0 < len(reached) < 40
    assert (len(seen), len(errors)) == (len(reached), 40 - len(reached))
    assert all("not reached" in str(error) for error in errors)


def test_of_several_calls_one_is_chosen_or_the_pass_is_left_out() -> None:
    class Steps(Layers):
        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.embedding(input_ids)[..., :8]
            for _ in range(3):
                x = self.layer(nn.functional.pad(x, (0, 4)))
            return x

    model = Steps()
    seen, errors = read(model, "layer", lambda: model(IDS))
    assert not seen
    assert "called 3 times" in str(errors[0])
    (first,), _ = read(model, "layer", lambda: model(IDS), call=0)
    (last,), _ = read(model, "layer", lambda: model(IDS), call=-1)
    assert torch.equal(last.sites["layer"], model(IDS).detach().flatten(0, 1))
    assert not torch.equal(first.sites["layer"], last.sites["layer"])


def test_two_texts_of_one_encoder_are_told_apart_by_the_call() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert()

        def forward(self, anchor: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
            return self.bert(**anchor)[0].sum() + self.bert(**other)[0].sum()

    model = Towers()
    texts = (
        {"input_ids": IDS, "attention_mask": MASK},
        {"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.tensor([[1, 1]])},
    )
    for call, ids in ((0, [9, 8, 7, 6, 5, 5, 6, 7]), (1, [3, 4])):
        (rows,), _ = read(model, "bert.encoder.layer.0", lambda: model(*texts), call=call)
        assert rows.token_id.tolist() == ids


def test_a_model_that_pads_by_itself_gives_the_rows_of_the_texts() -> None:
    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, attention_window=[4], max_position_embeddings=64,
    )  # fmt: skip
    model = LongformerModel(config, add_pooling_layer=False).eval()
    (rows,), errors = read(model, "encoder.layer.0", lambda: model(IDS, MASK))
    assert not errors
    assert rows.rows == 8
    with torch.no_grad():
        alone = model(IDS[1:, :3], output_hidden_states=True).hidden_states[1][0, :3]
    torch.testing.assert_close(rows.sites["encoder.layer.0"][5:], alone)


def test_a_decoder_that_turns_its_mask_around_keeps_the_tokens_that_were_kept() -> None:
    torch.manual_seed(0)
    config = FSMTConfig(
        langs=["a", "b"], src_vocab_size=60, tgt_vocab_size=60, d_model=16, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    )  # fmt: skip
    model = FSMTModel(config).eval()
    run = lambda: model(  # noqa: E731
        input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS + 3, decoder_attention_mask=MASK
    )
    for site, ids in (("decoder.layers.0", IDS + 3), ("encoder.layers.0", IDS)):
        (rows,), errors = read(model, site, run)
        assert not errors
        assert rows.token_id.tolist() == ids[MASK.bool()].tolist()


def test_rows_of_checkpointed_layers_come_once() -> None:
    class Saving(Layers):
        def forward(self, input_ids: Tensor) -> Tensor:
            return checkpoint(self.layer, self.embedding(input_ids), use_reentrant=False)

    model = Saving()
    seen, errors = read(model, "layer", lambda: [model(IDS).sum().backward() for _ in range(3)])
    assert not errors
    assert [rows.rows for rows in seen] == [10, 10, 10]


def bart(kind: type[BartModel | BartForConditionalGeneration]) -> nn.Module:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        decoder_start_token_id=2, pad_token_id=1,
    )  # fmt: skip
    return kind(config).eval()


def test_rows_of_a_decoder_carry_the_ids_that_it_read() -> None:
    model, target = bart(BartModel), torch.tensor([[2, 40, 41, 42, 43], [2, 44, 45, 1, 1]])
    given = {"input_ids": IDS, "attention_mask": MASK}
    decoded = {"decoder_input_ids": target, "decoder_attention_mask": (target != 1).long()}
    site = "decoder.layers.0"
    (rows,), _ = read(model, site, lambda: model(**given, **decoded))
    assert [d.tolist() for d in rows.documents] == [[2, 40, 41, 42, 43], [2, 44, 45]]
    (rows,), _ = read(model, site, lambda: model(input_ids=IDS[:1]))  # shifted by the model
    assert rows.token_id.tolist() == [2, 9, 8, 7, 6]
    (rows,), _ = read(model, "encoder.layers.0", lambda: model(**given, **decoded))
    assert [d.tolist() for d in rows.documents] == [[9, 8, 7, 6, 5], [5, 6, 7]]
    seen, (error,) = read(
        model, [site], lambda: model(**given, decoder_inputs_embeds=torch.zeros(2, 5, 16))
    )
    assert not seen
    assert "token ids" in str(error)


def test_a_head_behind_the_decoder_carries_the_decoders_ids() -> None:
    model = bart(BartForConditionalGeneration)
    sites = ["lm_head", "model.decoder.layers.0"]
    labels = torch.tensor([[40, 41, 42]])
    (rows,), errors = read(model, sites, lambda: model(input_ids=IDS[:1, :3], labels=labels))
    assert not errors
    assert rows.token_id.tolist() == [2, 40, 41]


def test_sites_of_an_encoder_and_a_decoder_do_not_go_together() -> None:
    model = bart(BartModel)
    sites = ["encoder.layers.0", "decoder.layers.0"]
    for target in (torch.tensor([[2, 40, 41]]), IDS[:1]):
        seen, (error,) = read(
            model, sites, lambda ids=target: model(input_ids=IDS[:1], decoder_input_ids=ids)
        )
        assert not seen
        assert "record them one by one" in str(error)


@pytest.mark.parametrize("tokens", [3, 4])
@pytest.mark.parametrize("part", ["q_proj", "k_proj", ""])
def test_cross_attention_has_the_ids_of_what_it_works_on(part: str, tokens: int) -> None:
    model, target = bart(BartModel), torch.tensor([[2, 40, 41, 42]])[:, :tokens]
    site = f"decoder.layers.0.encoder_attn.{part}".removesuffix(".")
    (rows,), errors = read(
        model, site, lambda: model(input_ids=IDS[:1, :4], decoder_input_ids=target)
    )
    assert not errors
    wanted = IDS[:1, :4] if part == "k_proj" else target
    assert rows.token_id.tolist() == wanted[0].tolist()
    assert len(rows.sites[site]) == wanted.numel()


def test_a_decoder_of_pictures_carries_its_ids() -> None:
    torch.manual_seed(0)
    encoder = ViTModel(
        ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            image_size=8, patch_size=4,
        )
    )  # fmt: skip
    decoder = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=32, add_cross_attention=True,
            bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    picture = torch.zeros(2, 3, 8, 8)
    (rows,), _ = read(
        model,
        "decoder.transformer.h.0",
        lambda: model(pixel_values=picture, decoder_input_ids=IDS, decoder_attention_mask=MASK),
    )
    assert rows.token_id.tolist() == [9, 8, 7, 6, 5, 5, 6, 7]


@pytest.mark.parametrize("transposes", [False, True])
def test_equal_sizes_wait_for_a_pass_that_tells_the_axes(
    transposes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_watch, "is_of_library", believed)  # whose order is believed
    model = Tiny()
    model.transposes, model.hides = transposes, True
    square, other = IDS[:, :2], IDS[:, :3]
    seen, errors = read(
        model, "layer", lambda: (model(square), model(square + 1), model(other), model(square + 2))
    )
    assert not errors
    model.transposes = False
    for rows, ids in zip(seen, [square, square + 1, other, square + 2], strict=True):
        assert rows.token_id.tolist() == ids.flatten().tolist()
        assert torch.equal(rows.sites["layer"], model(ids).detach().flatten(0, 1))


@pytest.mark.parametrize("transposes", [False, True])
def test_equal_sizes_need_no_other_pass_where_the_axes_can_be_followed(transposes: bool) -> None:
    model = Tiny()
    for ids in (IDS[:, :2], IDS.repeat(1, 2)[:, :8], IDS.repeat(4, 1)[:, :3]):  # 2, and width 8
        model.transposes = transposes
        (rows,), errors = read(model, "layer", lambda i=ids: model(i))
        assert not errors
        model.transposes = False
        assert rows.token_id.tolist() == ids.flatten().tolist()
        assert torch.equal(rows.sites["layer"], model(ids).detach().flatten(0, 1))


def test_what_no_pass_tells_is_left_out_unless_the_user_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, square = Tiny(), IDS[:, :2]
    model.hides = True
    seen, (error,) = read(model, "layer", lambda: model(IDS))
    assert not seen
    assert "cannot be followed through what torch does not show" in str(error)
    assert 'layout="batch_first"' in str(error)
    monkeypatch.setattr(order_watch, "is_of_library", believed)  # whose order is believed
    seen, errors = read(model, "layer", lambda: (model(square), model(square)))
    assert not seen
    assert len(errors) == 2
    assert all('layout="batch_first"' in str(error) for error in errors)
    seen, errors = read(model, "layer", lambda: model(square), layout="batch_first")
    assert [rows.rows for rows in seen] == [4]
    seen, errors = read(
        model, "layer", lambda: (model(square), model(square), model(IDS)), held_bytes=150
    )
    assert [rows.rows for rows in seen] == [4, 10]  # 128 bytes a pass: the first had no room
    assert len(errors) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_followed_any_more_behind_a_pass_that_failed(error: type[BaseException]) -> None:
    class Failing(Layers):
        def forward(self, ids: Tensor) -> Tensor:
            assert torch.overrides._get_current_function_mode_stack()
            raise error

    model = Failing()
    with pytest.raises(error):
        read(model, "layer", lambda: model(IDS))
    assert not torch.overrides._get_current_function_mode_stack()


def test_a_width_that_changes_is_left_out() -> None:
    model = Tiny()
    setattr(model, "layer", nn.Identity())  # noqa: B010  (of another type)
    reader_widths = list[dict[str, int]]()
    seen, errors = list[PassRows](), list[Exception]()
    with PassReader(model, ["layer"], take=seen.append, leave_out=errors.append) as reader:
        reader_widths.append(reader.widths)
        model(IDS)
        reader_widths.append(reader.widths)
        model.embedding = nn.Embedding(50, 7)
        model(IDS)
    assert reader_widths == [{}, {"layer": 12}]
    assert len(seen) == 1
    assert "width 7, and 12 in earlier passes" in str(errors[0])


def test_padding_that_nothing_tells_of_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    model = Tiny()
    read(model, "layer", lambda: (model(IDS[:1]), model(IDS, MASK)))
    read(model, "layer", lambda: model(IDS), special_ids=(0,))
    (rows,), _ = read(model, "layer", lambda: model(IDS), pad_id=0)
    assert rows.documents[1].tolist() == [5, 6, 7]
    assert not caplog.records
    read(model, "layer", lambda: (model(IDS), model(IDS)))
    assert [record.message[:26] for record in caplog.records] == ["there is no attention mask"]


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.inner(*args, **kwargs)


@pytest.fixture
def one_process(tmp_path: Path) -> Generator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_a_wrapped_model_is_read_whether_the_wrapper_or_the_module_is_given(
    one_process: None,
) -> None:
    model = Tiny()
    ddp = DistributedDataParallel(model)
    compiled = cast("nn.Module", torch.compile(model, backend="eager", fullgraph=True))
    compiled(IDS, MASK)
    for given in (model, ddp, compiled):
        for run in (model, ddp, compiled):
            (rows,), errors = read(given, "layer", lambda run=run: run(IDS, MASK))
            assert not errors
            assert rows.rows == 8
    (rows,), _ = read(Wrapper(model), "inner.layer", lambda: Wrapper(model)(IDS, MASK))
    assert rows.rows == 8


@pytest.mark.parametrize("way", ["whole", "in place", "a function around it"])
def test_a_compiled_model_that_ran_before_is_read_and_then_is_as_before(way: str) -> None:
    graphs = list[int]()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(1)
        return graph.forward

    torch.compiler.reset()
    model = Tiny().eval()
    wanted = model(IDS, MASK).detach()[MASK.bool()]
    if way == "in place":
        model.compile(backend=backend)
        run: Callable[..., object] = model
    elif way == "whole":
        run = torch.compile(model, backend=backend, fullgraph=True)
    else:
        run = torch.compile(lambda *args: model(*args), backend=backend)
    run(IDS, MASK)
    count = len(graphs)
    seen, errors = read(model, "layer", lambda: (run(IDS, MASK), run(IDS, MASK)))
    run(IDS, MASK)
    assert not errors
    assert [torch.equal(rows.sites["layer"], wanted) for rows in seen] == [True, True]
    assert len(graphs) == count


def test_a_forward_that_is_called_past_the_hooks_is_told() -> None:
    model = Tiny()
    seen, (error,) = read(model, "layer", lambda: model.forward(IDS))
    assert not seen
    assert "call the model" in str(error)
    hf = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2))
    (rows,), _ = read(
        hf, "transformer.h.0", lambda: hf.forward(cast("torch.LongTensor", IDS))
    )  # its stack is called
    assert rows.rows == 10


def test_what_take_raises_reaches_the_caller_and_the_hooks_go() -> None:
    model = Tiny()

    def take(rows: PassRows) -> None:
        raise ArithmeticError("planted")

    def stop() -> None:
        raise KeyboardInterrupt

    for raised, run in ((ArithmeticError, lambda: model(IDS)), (KeyboardInterrupt, stop)):
        with pytest.raises(raised), PassReader(model, ["layer"], take=take, leave_out=print):
            run()
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_a_model_copied_meanwhile_trains_on_without_the_reader() -> None:
    model, copies = Tiny(), list[Tiny]()
    seen, _ = read(model, "layer", lambda: copies.append(copy.deepcopy(model)) or model(IDS))
    copies[0](IDS).sum().backward()
    assert len(seen) == 1


def test_rows_name_the_step_and_the_mode_in_which_they_were_computed() -> None:
    model, steps = Tiny().eval(), iter([7, 8, 9])
    square = IDS[:, :2]
    seen, _ = read(
        model, "layer", lambda: (model(square), model.train(), model(IDS)), step=lambda: next(steps)
    )
    assert [(rows.step, rows.is_training) for rows in seen] == [(7, False), (8, True)]


def test_settings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(UnknownSite, match="nearest: layer"):
        read(Tiny(), "layre", lambda: None)
    with pytest.raises(InvalidInput, match="held_bytes is -1"):
        read(Tiny(), "layer", lambda: None, held_bytes=-1)


def test_ids_and_masks_are_those_that_were_given_though_the_module_changes_them() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.layer = nn.Embedding(50, 12), nn.Linear(12, 8)

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            out = self.layer(self.embedding(input_ids))
            input_ids.zero_()
            if attention_mask is not None:
                attention_mask.fill_(1)
            return out

    model, seen, errors = Changing(), list[PassRows](), list[Exception]()
    with PassReader(model, ["layer"], take=seen.append, leave_out=errors.append):
        model(torch.tensor([[7, 8, 9], [4, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    assert not errors
    (rows,) = seen
    assert rows.token_id.tolist() == [7, 8, 9, 4, 5]


def test_passes_at_other_training_steps_are_no_generation() -> None:
    model, seen, errors = Tiny(), list[PassRows](), list[Exception]()
    now = [0]
    reader = PassReader(
        model, ["layer"], take=seen.append, leave_out=errors.append, step=lambda: now[0]
    )
    with reader, torch.no_grad():
        for length in (3, 4, 5, 6):
            now[0] = length
            model(torch.arange(5, 5 + length)[None])
    assert not errors
    assert [rows.rows for rows in seen] == [3, 4, 5, 6]
    assert [rows.step for rows in seen] == [3, 4, 5, 6]


class Stairs(nn.Module):
    """As many blocks as wanted."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Identity()) for _ in range(count))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return x


def test_the_work_for_many_sites_grows_with_their_number() -> None:
    def calls(count: int) -> int:
        model, made = Stairs(count).eval(), 0
        names = [f"blocks.{i}.0" for i in range(count)]

        def count_call(frame: object, event: str, argument: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count_call)
        try:
            sites = find_sites(model, names)
            with PassReader(model, sites, take=lambda rows: None, leave_out=lambda error: None):
                model(torch.tensor([[1, 2, 3], [4, 5, 6]]))
        finally:
            sys.setprofile(before)
        return made

    calls(2)
    assert calls(160) < 6 * calls(40)


def test_packed_rows_and_pictures_are_refused_with_a_remedy() -> None:
    class Recurrent(Layers):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(12, 8, batch_first=True)

        def forward(self, ids: Tensor) -> Tensor:
            packed = pack_padded_sequence(self.embedding(ids), torch.tensor([5, 3]), True)
            return self.layer(pad_packed_sequence(self.lstm(packed)[0], True)[0].repeat(1, 1, 2))

    model = Recurrent()
    model.layer = nn.Linear(16, 8)
    _, (error,) = read(model, "lstm", lambda: model(IDS))
    assert "PackedSequence" in str(error)
    assert "choose the module behind pad_packed_sequence" in str(error)
    (rows,), errors = read(model, "layer", lambda: model(IDS))
    assert not errors
    assert rows.token_id.tolist() == IDS.flatten().tolist()
    pictures = nn.Sequential(nn.Conv2d(3, 4, 2))
    _, (error,) = read(pictures, "0", lambda: pictures(torch.randn(2, 3, 4, 4)))
    assert "works on pictures or sounds has no token ids" in str(error)
