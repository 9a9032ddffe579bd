"""Ids that the user names, and those that all sites share."""

from collections.abc import Mapping
from functools import partial
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from transformers import BartConfig, BartModel

from isogloss.errors import InvalidInput
from isogloss.models.passes.ids.choice import checked_ids
from isogloss.models.passes.reader import PassReader, PassRows

IDS = torch.tensor([[9, 8, 7, 6, 5], [5, 6, 7, 0, 0]])


class Pair(nn.Module):
    """Reads two texts, whose states no axes are followed to."""

    def __init__(self, *, hides: bool = True) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.words, self.one, self.other = nn.Embedding(50, 8), nn.Linear(8, 6), nn.Linear(8, 6)
        self.hides = hides

    def forward(self, a: Tensor, b: Tensor, kinds: Tensor | None = None) -> Tensor:
        one, other = self.words(a), self.words(b)
        if self.hides:
            one, other = (torch.from_numpy(x.detach().numpy().copy()) for x in (one, other))
        return self.one(one).sum() + self.other(other).sum()


@pytest.mark.parametrize(("ids", "site"), [("a", "one"), ("b", "other")])
def test_of_texts_of_equal_length_the_user_says_which(ids: str, site: str) -> None:
    model, given = Pair(), {"a": IDS, "b": IDS + 20}
    seen, errors = list[PassRows](), list[Exception]()
    read = partial(
        PassReader, model, [site], take=seen.append, leave_out=errors.append, layout="batch_first"
    )
    with read():
        model(**given)
    assert not seen
    assert "'a' or of 'b'" in str(errors.pop())
    with read(ids=ids):
        model(**given)
        model(IDS, IDS[:, :3])
    assert not errors
    assert seen[0].token_id.tolist() == given[ids].flatten().tolist()
    layer = cast("nn.Linear", model.get_submodule(site))
    wanted = layer(model.words(given[ids])).detach().flatten(0, 1)
    assert torch.equal(seen[0].sites[site], wanted)


def test_ids_that_a_pass_lacks_or_that_the_site_does_not_work_on_are_named() -> None:
    model, errors = Pair(hides=False), list[Exception]()
    assert checked_ids(model, "b") == "b"
    with pytest.raises(InvalidInput, match="'src', and the model's forward pass takes 'a', 'b'"):
        PassReader(model, ["one"], take=print, leave_out=print, ids="src")
    with PassReader(model, ["one"], take=print, leave_out=errors.append, ids="b"):
        model(IDS, IDS + 20)  # both are of one length, and what the site works on can be followed
    with PassReader(model, ["one"], take=print, leave_out=errors.append, ids="kinds"):
        model(IDS, IDS + 20)
        model(IDS, IDS + 20, torch.ones(2, 5))
    with PassReader(Pair(), ["one"], take=print, leave_out=errors.append, ids="b") as reader:
        reader._module(IDS, IDS[:, :3])  # sizes that do not fit
    wanted = [
        "ids is 'b', and site 'one' works on other token ids: those of 'a'",
        "ids is 'kinds', and this pass was given nothing as that",
        "ids is 'kinds', and this pass was given torch.float32 [2, 5] as that",
        "site 'one' gives [2, 5, 6], wanted [sequences 2, tokens 3, width]",
    ]
    for error, said in zip(errors, wanted, strict=True):
        assert said in str(error)


def test_ids_of_an_encoder_are_named_as_the_model_is_given_them() -> None:
    config = BartConfig(
        vocab_size=50, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
    )  # fmt: skip
    model, errors = BartModel(config).eval(), list[Exception]()
    given = {"input_ids": IDS, "decoder_input_ids": IDS + 20}
    site, seen = "decoder.layers.0", list[PassRows]()
    with PassReader(model, [site], take=print, leave_out=errors.append, ids="input_ids"):
        model(**given)
    assert "other token ids: those of 'decoder_input_ids'" in str(errors[0])
    with PassReader(model, [site], take=seen.append, leave_out=print, ids="decoder_input_ids"):
        model(**given)
    assert seen[0].token_id.tolist() == (IDS + 20).flatten().tolist()


def test_ids_in_a_batch_given_as_one_mapping_are_named_by_their_key() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
            return self.pair(batch["a"], batch["b"])

    model, seen = Mapped(), list[PassRows]()
    model.pair.hides = False
    with PassReader(model, ["pair.other"], take=seen.append, leave_out=print, ids="batch.b"):
        model({"a": IDS, "b": IDS + 20})
    assert seen[0].token_id.tolist() == (IDS + 20).flatten().tolist()
