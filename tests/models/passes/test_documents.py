"""Passes over documents."""

import copy
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BartConfig,
    BartModel,
    BigBirdConfig,
    BigBirdModel,
    BloomConfig,
    BloomModel,
    LlamaConfig,
    LlamaModel,
    LongformerConfig,
    LongformerModel,
    Phi3Config,
    Phi3Model,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models import LoadedModel, record
from isogloss.models.elements.containers import first_tensor

DOCUMENTS = [[5, 6, 7, 8, 9, 10], [5, 6, 7], [9, 8, 7, 6]]


def rows_of(
    model: nn.Module, site: str, documents: Sequence[Sequence[int]], call: int | None = None
) -> Tensor:
    loaded = LoadedModel(module=model, name="m")
    pieces = list(record(loaded, documents, [site], dtype=torch.float32, call=call))
    assert np.concatenate([piece.token_id for piece in pieces]).tolist() == [
        token for document in documents for token in document
    ]
    return torch.cat([piece.sites[site] for piece in pieces])


class Swapped(nn.Module):
    """Gives its site tokens, channels or heads first."""

    def __init__(self, way: str, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.site, self.way = nn.Embedding(60, width), nn.Identity(), way
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.sizes.append(tuple(input_ids.shape))
        x = self.table(input_ids)
        if self.way == "tokens":
            return self.site(x.transpose(0, 1))
        if self.way == "channels":
            return self.site(x.transpose(1, 2))
        if self.way == "heads":
            return self.site(x.unflatten(2, (2, -1)).transpose(1, 2))
        return self.site(x)


def square(texts: int, tokens: int) -> list[list[int]]:
    return [[text * tokens + i + 1 for i in range(tokens)] for text in range(texts)]


@pytest.mark.parametrize("way", ["rows", "tokens", "channels", "heads"])
@pytest.mark.parametrize(
    ("texts", "tokens", "width"),
    [(4, 6, 8), (4, 4, 8), (4, 8, 8), (8, 6, 8), (6, 6, 6), (3, 2, 8), (2, 2, 2), (1, 1, 8)],
)
def test_rows_are_of_their_tokens_whatever_the_layout_and_the_sizes(
    way: str, texts: int, tokens: int, width: int
):
    model = Swapped(way, width)
    documents = square(texts, tokens)
    found = rows_of(model, "site", documents)
    with torch.no_grad():
        wanted = model.table(torch.tensor(documents)).flatten(0, 1)
    assert torch.equal(found, wanted)


def test_sizes_that_tell_the_layout_cost_no_pass_more():
    model = Swapped("rows", 8)
    rows_of(model, "site", square(4, 6))
    assert model.sizes == [(4, 6)]


class Pooled(Swapped):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.site(self.table(input_ids).mean(1, keepdim=True))


class Scores(Swapped):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.table(input_ids)
        return self.site(x @ x.transpose(1, 2))


def test_outputs_without_a_row_for_each_token_are_refused():
    with pytest.raises(ShapeError, match="choose another submodule"):
        rows_of(Pooled("rows", 8), "site", square(3, 4))
    with pytest.raises(ShapeError, match=r"layout=.batch_first"):
        rows_of(Scores("rows", 8), "site", square(3, 4))


def test_a_layer_shared_by_all_steps_needs_a_choice_of_its_call():
    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=60, embedding_size=8, hidden_size=16, num_hidden_layers=3,
        num_attention_heads=2, intermediate_size=32,
    )  # fmt: skip
    model = AlbertModel(config, add_pooling_layer=False).eval()
    site = "encoder.albert_layer_groups.0.albert_layers.0"
    with pytest.raises(InvalidInput, match="called 3 times in one pass; choose"):
        rows_of(model, site, DOCUMENTS)
    for call in (0, 1, -1):
        found = rows_of(model, site, DOCUMENTS, call=call)
        for ids, rows in zip(DOCUMENTS, found.split([6, 3, 4]), strict=True):
            with torch.no_grad():
                states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            torch.testing.assert_close(rows, states[1:][call][0])


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_a_decoders_rows_are_refused_and_an_encoders_are_right(kind: str):
    torch.manual_seed(0)
    if kind == "bart":
        config = BartConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        )  # fmt: skip
        model, sites = BartModel(config).eval(), ("encoder.layers.0", "decoder.layers.0")
    else:
        config = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        model, sites = T5ForConditionalGeneration(config).eval(), ("encoder.block.0", "lm_head")
    with pytest.raises(InvalidInput, match="choose a site of the encoder"):
        rows_of(model, sites[1], DOCUMENTS)
    found = rows_of(model, sites[0], DOCUMENTS)
    encoder, seen = model.get_encoder(), list[Tensor]()
    handle = model.get_submodule(sites[0]).register_forward_hook(
        lambda module, args, output: seen.append(first_tensor(output, "site"))
    )
    with torch.no_grad():
        for ids in DOCUMENTS:
            encoder(torch.tensor([ids]))
    handle.remove()
    torch.testing.assert_close(found, torch.cat([output[0] for output in seen]))


def test_a_model_that_pads_to_a_length_of_its_own_gives_the_rows_of_the_texts():
    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, attention_window=[4], max_position_embeddings=64,
    )  # fmt: skip
    model = LongformerModel(config, add_pooling_layer=False).eval()
    found = rows_of(model, "encoder.layer.0", DOCUMENTS)
    with torch.no_grad():
        wanted = [
            model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0, : len(ids)]
            for ids in DOCUMENTS
        ]
    torch.testing.assert_close(found, torch.cat(wanted))


def test_a_model_that_looks_at_padding_is_given_none():
    class Convolved(nn.Module):
        """Looks at its neighbours, whatever the mask says."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.mix = nn.Embedding(60, 8), nn.Conv1d(8, 8, 3, padding=1)
            self.site, self.sizes = nn.Identity(), list[tuple[int, ...]]()

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            self.sizes.append(tuple(input_ids.shape))
            x = self.table(input_ids).transpose(1, 2)
            return self.site(self.mix(x).transpose(1, 2))

    model = Convolved()
    found = rows_of(model, "site", [*DOCUMENTS, [1, 2, 3]])
    assert model.sizes[-3:] == [(2, 3), (1, 4), (1, 6)]  # those of one length share a pass
    with torch.no_grad():
        wanted = [model(torch.tensor([ids]))[0] for ids in [*DOCUMENTS, [1, 2, 3]]]
    torch.testing.assert_close(found, torch.cat(wanted))


@pytest.mark.parametrize("time_first", [False, True])
def test_a_model_that_lets_padding_into_one_row_of_many_is_given_none(time_first: bool):
    class Chooses(nn.Module):
        """Looks at padding from one token alone, as a choice of the highest scores may."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.site = nn.Embedding(60, 8), nn.Identity()

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            x = self.table(input_ids)
            if attention_mask is not None:
                is_padded = (attention_mask == 0).any(1)[:, None] & (input_ids == 59)
                x = x + 0.002 * is_padded[..., None]
            return self.site(x.transpose(0, 1) if time_first else x)

    model = Chooses()
    documents = [[i, *range(10 + i, 20 + i + i % 3)] for i in range(9)]
    documents[3][4] = 59
    found = rows_of(model, "site", documents)
    wanted = model.table(torch.tensor([token for ids in documents for token in ids]))
    torch.testing.assert_close(found, wanted)


def test_a_table_made_while_recording_serves_a_training_afterwards():
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.last = nn.Embedding(50, 8), nn.Identity()
            self.table: Tensor | None = None

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.embed(input_ids)
            if self.table is None:
                self.table = torch.arange(x.shape[1])[:, None] * torch.ones(8)
            return self.last(x * self.table[: x.shape[1]])

    model = Table()
    rows_of(model, "last", [[1, 2, 3]])
    model(torch.tensor([[1, 2, 3]])).square().mean().backward()
    assert model.embed.weight.grad is not None


def test_torchs_own_encoder_gives_the_rows_of_padded_texts():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.table, self.encoder = nn.Embedding(50, 16), nn.TransformerEncoder(layer, 2)

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            padding = None if attention_mask is None else attention_mask == 0
            return self.encoder(self.table(input_ids), src_key_padding_mask=padding)

    model = Net().eval()
    for site in ("encoder", "encoder.layers.0", "encoder.layers.1.linear1"):
        seen = list[Tensor]()
        handle = model.get_submodule(site).register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(
                first_tensor(output, "site")[0].detach()
            )
        )
        for ids in DOCUMENTS:
            model(torch.tensor([ids]))
        handle.remove()
        torch.testing.assert_close(rows_of(model, site, DOCUMENTS), torch.cat(seen))


@pytest.mark.parametrize("way", ["whole", "in place"])
def test_a_compiled_model_gives_the_rows_of_the_plain_one(way: str):
    model = Swapped("rows", 8).eval()
    wanted = rows_of(model, "site", DOCUMENTS)
    if way == "whole":
        run = cast("nn.Module", torch.compile(model, backend="eager", fullgraph=True))
    else:
        model.compile(backend="eager")
        run = model
    run(torch.tensor(DOCUMENTS[:1]))
    assert torch.equal(rows_of(run, "site", DOCUMENTS), wanted)


# The length of the whole batch decides, whatever the mask says.


def dynamic(kind: str, longest: int = 16) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=32, max_position_embeddings=longest,
        rope_parameters={"rope_type": kind, "factor": 4.0, "rope_theta": 10000.0},
        initializer_range=0.3,
    )  # fmt: skip
    return LlamaModel(config)


def longrope() -> PreTrainedModel:
    config = Phi3Config(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=32, max_position_embeddings=128,
        original_max_position_embeddings=24, pad_token_id=0, initializer_range=0.3,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4, "original_max_position_embeddings": 24,
        },
    )  # fmt: skip
    return Phi3Model(config)


def big_bird() -> PreTrainedModel:
    config = BigBirdConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, block_size=2, num_random_blocks=1, max_position_embeddings=128,
        initializer_range=0.3,
    )  # fmt: skip
    return BigBirdModel(config, add_pooling_layer=False)


def bloom() -> PreTrainedModel:
    return BloomModel(BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=2))


SWITCHED: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "dynamic": (lambda: dynamic("dynamic"), "layers.1"),
    "longrope": (longrope, "layers.1"),
    "block sparse": (big_bird, "encoder.layer.1"),
    "alibi": (bloom, "h.1"),
}


def alone(model: PreTrainedModel, site: str, ids: list[int]) -> Tensor:
    """Return the rows of one text, of a model that has read nothing before."""
    fresh, seen = copy.deepcopy(model), list[Tensor]()
    fresh.get_submodule(site).register_forward_hook(
        lambda module, args, output: seen.append(first_tensor(output, "site"))
    )
    with torch.no_grad():
        fresh(torch.tensor([ids]))
    return seen[0][0, : len(ids)]


@pytest.mark.parametrize("lengths", [(3, 40, 9, 27, 12), (30, 24, 40, 20), (1, 20, 1, 33, 2)])
@pytest.mark.parametrize("kind", SWITCHED)
def test_rows_are_those_of_the_text_alone_where_the_length_of_a_batch_decides(
    kind: str, lengths: tuple[int, ...]
):
    torch.manual_seed(0)
    make, site = SWITCHED[kind]
    model = make().eval()
    documents = [[5 + (7 * i + 3 * j) % 50 for j in range(n)] for i, n in enumerate(lengths)]
    untouched = copy.deepcopy(model)
    found = rows_of(model, site, documents)
    for ids, rows in zip(documents, found.split(list(lengths)), strict=True):
        torch.testing.assert_close(rows, alone(untouched, site, ids), rtol=1e-4, atol=1e-5)
    for (name, one), other in zip(model.named_modules(), untouched.modules(), strict=True):
        assert type(one) is type(other), name
    for (name, one), other in zip(model.named_buffers(), untouched.buffers(), strict=True):
        assert kind == "longrope" or torch.equal(one, other), name


def test_texts_of_later_pieces_that_are_longer_are_tried_too():
    torch.manual_seed(0)
    model = dynamic("dynamic").eval()
    untouched = copy.deepcopy(model)
    documents = [[5 + j for j in range(n)] for n in (4, 5, 6, 12, 40, 30)]
    loaded = LoadedModel(module=model, name="m")
    pieces = list(record(loaded, documents, ["layers.1"], dtype=torch.float32, batch_rows=15))
    assert len(pieces) > 1
    rows = torch.cat([piece.sites["layers.1"] for piece in pieces])
    for ids, found in zip(documents, rows.split([len(ids) for ids in documents]), strict=True):
        torch.testing.assert_close(found, alone(untouched, "layers.1", ids), rtol=1e-4, atol=1e-5)
