"""Modules that read token ids."""

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
)

from isogloss.models.passes.ids.stacks import stacks_around


def test_the_model_and_the_stacks_around_the_sites_are_found():
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    model = GPT2LMHeadModel(config)
    found = stacks_around(model, [model.transformer.h[1]])
    assert [stack.name for stack in found.values()] == ["", "transformer"]
    assert not any(stack.is_pair or stack.is_decoder for stack in found.values())
    assert [stack.name for stack in stacks_around(model, [model.lm_head]).values()] == [""]


def test_an_encoder_and_a_decoder_are_told_apart():
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    found = stacks_around(model, [model.model.encoder.layers[0], model.lm_head])
    kinds = {stack.name: (stack.is_pair, stack.is_decoder) for stack in found.values()}
    assert kinds == {
        "": (True, False),
        "model": (True, False),
        "model.encoder": (False, False),
        "model.decoder": (False, True),
    }


def test_a_module_without_a_forward_of_its_own_is_no_stack():
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    model = torch.nn.ModuleDict({"layers": layers})
    assert [stack.name for stack in stacks_around(model, [layers[0]]).values()] == [""]


def test_a_layer_that_is_given_hidden_states_beside_the_ids_is_no_stack():
    """Such as one that routes by ids: its mask and cache are not those of the call around it."""

    class Layer(torch.nn.Module):
        def forward(
            self, hidden_states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
        ) -> torch.Tensor:
            return hidden_states + input_ids[..., None] * attention_mask[0, 0, 0, 0]

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layers = torch.nn.Embedding(9, 4), torch.nn.ModuleList([Layer()])

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            mask = attention_mask[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1) * 2
            return self.layers[0](self.table(input_ids), input_ids, attention_mask=mask)

    model = Model()
    assert [stack.name for stack in stacks_around(model, [model.layers[0]]).values()] == [""]
