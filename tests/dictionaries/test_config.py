import json

import pytest

from isogloss.dictionaries import TrainConfig
from isogloss.errors import InvalidInput


def test_a_config_has_at_most_a_dozen_settings():
    assert len(TrainConfig(features=64).to_dict()) <= 12


def test_a_config_survives_json():
    config = TrainConfig(features=128, k=8, epochs=0.5, learning_rate=1e-3, aux_k=0, seed=9)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_setting_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(InvalidInput, match=r"unknown settings \['lr'\].*learning_rate"):
        TrainConfig.from_dict({"features": 64, "lr": 1e-3})


def test_the_number_of_features_is_required():
    with pytest.raises(InvalidInput, match="features is missing"):
        TrainConfig.from_dict({"k": 4})


def test_numbers_are_read_as_the_fields_type_whichever_way_json_wrote_them():
    config = TrainConfig.from_dict({"features": 64.0, "epochs": 3, "decay": 0, "k": 4.0})
    assert (config.features, config.epochs, config.decay, config.k) == (64, 3.0, 0.0, 4)
    assert isinstance(config.features, int)
    assert isinstance(config.epochs, float)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "gated"}, "gated.*topk"),
        ({"features": 0}, "features is 0"),
        ({"features": 64.5}, "features is 64.5"),
        ({"features": "many"}, "features is 'many'"),
        ({"features": True}, "features is True"),
        ({"k": 0}, "k is 0"),
        ({"k": 65}, "k is 65 but features is 64"),
        ({"k": None}, "k is None"),
        ({"batch_rows": 0}, "batch_rows is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"decay": 1.5}, "decay is 1.5"),
        ({"holdout": 1.0}, "holdout is 1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"dead_after_rows": 0}, "dead_after_rows is 0"),
        ({"aux_k": -1}, "aux_k is -1"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
    ],
)
def test_a_value_out_of_range_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        TrainConfig.from_dict({"features": 64} | settings)


def test_configs_that_differ_only_in_checkpoints_are_of_one_run():
    config = TrainConfig(features=64, checkpoint_every=1)
    assert config.differences(TrainConfig(features=64, checkpoint_every=9)) == []
    assert config.differences(TrainConfig(features=64, seed=1, k=4)) == ["k", "seed"]
