"""Arguments of `client.record`."""

from typing import Literal

import numpy as np
import pytest
import torch
from tests.models.conftest import byte_level
from tests.service.recording.live.test_recorder import Translator
from torch import nn

from isogloss import Client
from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.models import LoadedModel, capture, tokenizer_id
from isogloss.service.recording.live.opening import _class_name


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("hides", [False, True])
def test_the_user_says_which_ids_the_sites_work_on(
    local_client: Client, name: str, hides: bool
) -> None:
    src, tgt = torch.arange(1, 13).reshape(3, 4), torch.arange(20, 32).reshape(3, 4)
    model = Translator(hides=hides)
    layout: Literal["batch_first"] | None = "batch_first" if hides else None
    for ids, site, wanted in (("tgt", "net.decoder", tgt), ("src", "net.encoder", src)):
        with local_client.record(
            model,
            sites=[site],
            recording=f"{name}-{ids}",
            ids=ids,
            dtype="float32",
            layout=layout,  # the order of what is hidden is not followed either
        ) as recorder:
            model(src, tgt=tgt)
        assert not recorder.counts.left_out
        assert local_client.tokens(f"{name}-{ids}").token_id.tolist() == wanted.flatten().tolist()
        with capture(model, [site]) as seen:
            model(src, tgt)
        found = local_client.read(f"{name}-{ids}", site).astype(np.float32)
        np.testing.assert_allclose(found, seen[site].flatten(0, 1).numpy(), atol=1e-5)
        assert local_client.recording(f"{name}-{ids}").spec.provenance["ids"] == ids
    with pytest.raises(InvalidInput, match="takes 'src', 'tgt', 'tgt_key_padding_mask'; give the"):
        local_client.record(model, sites=["net.decoder"], recording=f"{name}-x", ids="target")
    with pytest.raises(AlreadyExists):  # of one recording it is one
        local_client.record(model, sites=["net.decoder"], recording=f"{name}-tgt", ids="src")


def test_a_module_that_was_sharded_in_place_has_the_name_of_its_own_class() -> None:
    own = Translator()
    assert _class_name(own) == "Translator"
    for prefix in ("FSDP", "DDP", "Replicate", "Parametrized"):
        sharded = type(f"{prefix}Translator", (Translator,), {})
        assert _class_name(object.__new__(sharded)) == "Translator"
    child = type("Child", (Translator,), {})
    assert _class_name(object.__new__(child)) == "Child"


def test_what_load_model_gives_is_recorded_with_its_tokenizer_and_name(
    local_client: Client, name: str
) -> None:
    module = nn.Sequential(nn.Embedding(400, 8), nn.Linear(8, 8))
    loaded = LoadedModel(module=module, tokenizer=byte_level(), name="loaded")
    ids = torch.arange(40).reshape(2, 20)
    with local_client.record(loaded, sites=["1"], recording=name) as recorder:
        module(ids)
    assert not recorder.counts.left_out
    spec = local_client.recording(name).spec
    assert spec.model.name == "loaded"
    assert spec.tokenizer == tokenizer_id(byte_level())
