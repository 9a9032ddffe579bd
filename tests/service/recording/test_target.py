"""A recording is checked before the first pass and created with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.service.recording.live.test_recorder import Tiny
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from isogloss import Client
from isogloss.errors import AlreadyExists, InvalidInput, InvalidName, NotFound, NotPermitted
from isogloss.models import LoadedModel, ancestry
from isogloss.service.client.writing import _Writer
from isogloss.service.recording.options import RecorderOptions
from isogloss.service.recording.target import Description, Target, describe_live
from isogloss.store import Document

IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def described(model: Tiny, name: str, *, is_trained: bool = False) -> Description:
    return describe_live(
        LoadedModel(module=model, name="tiny"),
        ["first"],
        recording=name,
        corpus="live",
        dtype="float32",
        has_spans=False,
        provenance={"skip_first": "2"},
        is_trained=is_trained,
    )


def test_nothing_is_made_before_widths_are_known(local_client: Client, name: str) -> None:
    target = Target(_Writer(local_client), described(Tiny(), name))
    assert target.spec is None
    assert target.known(0) == set()
    with pytest.raises(NotFound):
        local_client.recording(name)
    spec = target.create({"first": 12}, {"mode": "eval"})
    assert local_client.recording(name).spec == spec
    assert dict(spec.provenance) == {"skip_first": "2", "mode": "eval"}
    again = Target(_Writer(local_client), described(Tiny(), name))
    assert again.spec == spec
    assert again.create({"first": 12}, {"mode": "train"}) == spec
    with pytest.raises(AlreadyExists, match="width 12, not 13"):
        again.create({"first": 13}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": "other"},
        {"corpus": "other"},
        {"sites": ("second",)},
        {"dtype": "float16"},
        {"has_spans": True},
        {"provenance": {}},
        {"provenance": {"skip_first": "2", "sample": "0.5"}},
    ],
)
def test_a_recording_that_differs_is_refused_before_a_pass(
    local_client: Client, change: dict[str, object]
) -> None:
    whole = described(Tiny(), "differs")
    Target(_Writer(local_client), whole).create({"first": 12}, {})
    with pytest.raises(AlreadyExists, match="another id"):
        Target(_Writer(local_client), replace(whole, **change))  # type: ignore[arg-type]


def test_other_weights_need_a_training_step(local_client: Client) -> None:
    model = Tiny()
    Target(_Writer(local_client), described(model, "weights")).create({"first": 12}, {})
    with torch.no_grad():
        model.first.weight.mul_(0.5).add_(torch.randn(12, 12))
    with pytest.raises(AlreadyExists, match="step="):
        Target(_Writer(local_client), described(model, "weights"))
    trained = Target(_Writer(local_client), described(model, "weights", is_trained=True))
    assert trained.spec is not None


def test_two_ranks_that_create_at_once_have_one_recording(local_client: Client) -> None:
    first, second = (Target(_Writer(local_client), described(Tiny(), "race")) for _ in range(2))
    one = first.create({"first": 12}, {"mode": "train"})
    assert second.create({"first": 12}, {"mode": "eval"}) == one


def test_what_cannot_be_is_said_before_a_pass(local_client: Client, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidName):
        local_client.record(Tiny(), sites=["first"], recording="Not A Name")
    with pytest.raises(NotPermitted):
        local_client.record(
            Tiny(),
            sites=["first"],
            recording="elsewhere",
            direct=True,
            root=tmp_path_factory.mktemp("other"),
        )
    with pytest.raises(InvalidInput, match="skip_first"):
        local_client.record(Tiny(), sites=["first"], recording="negative", skip_first=-1)
    with pytest.raises(InvalidInput, match="ranks"):
        local_client.record(Tiny(), sites=["first"], recording="r", ranks="two")  # type: ignore[arg-type]


def test_known_documents_are_those_of_a_step(local_client: Client, name: str) -> None:
    model = Tiny()
    for step in (0, 7):
        with local_client.record(model, sites=["first"], recording=name, step=step):
            model(IDS[: 1 + (step == 0)])
    target = Target(
        _Writer(local_client),
        replace(
            described(model, name, is_trained=True),
            provenance={},
            dtype="bfloat16",
            tokenizer="ids of Tiny",
            model=local_client.recording(name).spec.model,
        ),
    )
    ids = [Document.from_token_ids(row).id for row in IDS.numpy()]
    assert target.known(0) == set(ids)
    assert target.known(7) == set(ids[:1])
    assert target.known(8) == set()
    assert target.stored_rows(ids[0], 7) == 3
    assert target.stored_rows(ids[1], 7) == 0


def test_an_example_makes_the_recording_at_once_and_leaves_the_model_as_it_was(
    local_client: Client, name: str
) -> None:
    model = Tiny().train()
    recorder = local_client.record(model, sites=["second"], recording=name, example=IDS)
    assert local_client.recording(name).spec.sites[0].width == 8
    assert recorder.route.startswith("through")
    assert model.training
    with recorder:
        model(IDS)
    assert recorder.counts.durable_rows == 6
    assert RecorderOptions().wait_s == 300


def test_a_model_is_recorded_before_it_is_sharded_or_has_no_fingerprint_which_is_said(
    local_client: Client, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        model = Tiny()
        plain = model(IDS).detach()
        options = RecorderOptions(strict=True)
        recorder = local_client.record(
            model, sites=["second"], recording=name, dtype="float32", step=1, options=options
        )
        sharded = fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        assert "no fingerprint" not in caplog.text
        with recorder, torch.no_grad():
            model(IDS)
        spec = local_client.recording(name).spec
        assert spec.model.ancestry == ancestry(Tiny())
        torch.testing.assert_close(
            torch.from_numpy(local_client.read(name, "second")), plain.flatten(0, 1)
        )
        # once sharded it goes on in that recording, and a new one has no fingerprint
        sharded.reshard()
        recorder = local_client.record(
            model, sites=["second"], recording=name, dtype="float32", step=2, options=options
        )
        with recorder, torch.no_grad():
            model(IDS)
        assert [info.step for info in local_client.steps(name)] == [1, 2]
        assert caplog.text.count("no fingerprint") == 1
        sharded.reshard()
        assert not described(model, f"{name}-new").model.ancestry
    finally:
        distributed.destroy_process_group()
