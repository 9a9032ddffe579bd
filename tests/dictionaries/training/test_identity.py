import dataclasses
import logging

import pytest

from isogloss.dictionaries import Source, TrainConfig
from isogloss.dictionaries.training.identity import RunIdentity
from isogloss.dictionaries.training.plan import make_plan
from isogloss.errors import Conflict


@pytest.fixture
def identity(sources: list[Source], small_config: TrainConfig) -> RunIdentity:
    return RunIdentity.of(make_plan(small_config, sources))


def test_a_run_is_what_its_own_checkpoint_says(identity: RunIdentity):
    identity.require(identity.to_dict())
    (site,) = identity.sites
    assert identity.to_dict()["recording_uid"] == site.recording_uid


@pytest.mark.parametrize(
    ("field", "value"),
    [("recording_uid", "another"), ("revision", {"lanes": []}), ("sites", ["another"])],
)
def test_what_differs_is_named(identity: RunIdentity, field: str, value: object):
    with pytest.raises(Conflict, match=rf"differs in {field};"):
        identity.require(identity.to_dict() | {field: value})


def test_a_setting_that_is_left_out_is_its_default(identity: RunIdentity):
    config = identity.config.to_dict()
    config["settings"] = {"features": 96, "k": 4}
    identity.require(identity.to_dict() | {"config": config})


def test_how_often_checkpoints_are_written_does_not_matter(identity: RunIdentity):
    config = dataclasses.replace(identity.config, checkpoint_every=7)
    identity.require(identity.to_dict() | {"config": config.to_dict()})


def test_another_release_of_a_library_is_told(
    identity: RunIdentity, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        identity.require(identity.to_dict() | {"libraries": {"torch": "1.0"}})
    assert "last bits" in caplog.text


def test_a_run_on_other_training_steps_is_another_run(identity: RunIdentity):
    config = dataclasses.replace(identity.config, steps=(7,))
    with pytest.raises(Conflict, match=r"differs in config\.steps"):
        identity.require(identity.to_dict() | {"config": config.to_dict()})
