import json

import pytest

from isogloss.dictionaries import LeaveOut, TrainConfig
from isogloss.errors import InvalidInput

SETTINGS = {"features": 64}


def test_a_config_has_at_most_a_dozen_settings():
    assert len(TrainConfig(settings=SETTINGS).to_dict()) <= 12


def test_a_config_survives_json():
    settings = {"features": 128, "k": 8, "aux_k": 0}
    config = TrainConfig(
        settings=settings,
        epochs=0.5,
        learning_rate=1e-3,
        seed=9,
        leave_out=LeaveOut(max_norm=3.5, document_starts=True),
    )
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_setting_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(InvalidInput, match=r"unknown settings \['lr'\].*learning_rate"):
        TrainConfig.from_dict({"settings": SETTINGS, "lr": 1e-3})


def test_numbers_are_read_as_the_fields_type_whichever_way_json_wrote_them():
    config = TrainConfig.from_dict(
        {"settings": SETTINGS, "epochs": 3, "decay": 0, "batch_rows": 4.0}
    )
    assert (config.epochs, config.decay, config.batch_rows) == (3.0, 0.0, 4)
    assert isinstance(config.batch_rows, int)
    assert isinstance(config.epochs, float)


def test_a_flat_config_is_read_and_what_is_not_common_is_the_kinds():
    flat = {"kind": "topk", "features": 64, "k": 8, "aux_k": None, "epochs": 2, "seed": 3}
    config = TrainConfig.from_dict(flat)
    assert config == TrainConfig(
        settings={"features": 64, "k": 8, "aux_k": None}, epochs=2.0, seed=3
    )
    assert TrainConfig.from_dict({}).settings == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": 3}, "kind is 3"),
        ({"settings": 3}, "settings is 3"),
        ({"batch_rows": 0}, "batch_rows is 0"),
        ({"batch_rows": True}, "batch_rows is True"),
        ({"batch_rows": 1.5}, "batch_rows is 1.5"),
        ({"batch_rows": "many"}, "batch_rows is 'many'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"decay": 1.5}, "decay is 1.5"),
        ({"holdout": 1.0}, "holdout is 1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"dead_after_rows": 0}, "dead_after_rows is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"leave_out": {"max_norm": -1}}, "max_norm is -1"),
        (
            {"leave_out": {"norm": 1}},
            r"\['norm'\] \(nearest: max_norm\); leave_out has",
        ),
        ({"leave_out": 3}, "leave_out is 3"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        TrainConfig.from_dict({"settings": SETTINGS} | values)


def test_a_value_out_of_range_is_refused_however_the_config_is_made():
    with pytest.raises(InvalidInput, match="batch_rows is 0"):
        TrainConfig(settings=SETTINGS, batch_rows=0)


def test_configs_that_differ_only_in_checkpoints_are_of_one_run():
    config = TrainConfig(settings={"features": 64, "k": 32}, checkpoint_every=1)
    assert config.differences(TrainConfig(settings=config.settings, checkpoint_every=9)) == []
    other = TrainConfig(settings={"features": 64, "k": 4}, seed=1)
    assert config.differences(other) == ["k", "seed"]


def test_a_config_names_training_steps_only_where_some_are_wanted():
    config = TrainConfig(settings=SETTINGS)
    assert "steps" not in config.to_dict()  # releases that know none read it
    chosen = TrainConfig.from_dict({"settings": SETTINGS, "steps": [20, 2**64 - 1]})
    assert chosen.steps == (20, 2**64 - 1)
    assert TrainConfig.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    assert config.differences(chosen) == ["steps"]
    with pytest.raises(InvalidInput, match="steps is"):
        TrainConfig.from_dict({"settings": SETTINGS, "steps": [-1]})
