from dataclasses import fields

import pytest

from isogloss.dictionaries import TrainConfig
from isogloss.dictionaries.kinds.topk import TopK
from isogloss.errors import InvalidInput
from isogloss.proto.v1 import dictionaries_pb2, universality_pb2
from isogloss.service.wire.settings import fill, set_fields
from isogloss.service.wire.training import OF_A_KIND
from isogloss.universality import MatchSettings


def test_the_settings_on_the_wire_are_those_of_the_rooms_below() -> None:
    train = {field.name for field in dictionaries_pb2.TrainConfig.DESCRIPTOR.fields}
    assert train == {field.name for field in fields(TrainConfig)} | OF_A_KIND
    assert {field.name for field in fields(TopK)} >= OF_A_KIND  # newer ones travel as settings
    on_wire = universality_pb2.MatchSettings.DESCRIPTOR.fields
    match = {field.name for field in on_wire if not field.GetOptions().deprecated}
    assert match == {field.name for field in fields(MatchSettings)}


def test_settings_of_earlier_versions_are_refused_with_what_took_their_place() -> None:
    for field in universality_pb2.MatchSettings.DESCRIPTOR.fields:
        if field.GetOptions().deprecated:
            sent = fill(universality_pb2.MatchSettings(), {field.name: 1})
            with pytest.raises(InvalidInput, match=f"{field.name} is gone; in its place is"):
                MatchSettings.from_dict(set_fields(sent))


def test_settings_left_out_stay_left_out_and_the_others_keep_their_type() -> None:
    config = fill(dictionaries_pb2.TrainConfig(), {"features": 64, "seed": 0, "epochs": None})
    assert set_fields(config) == {"features": 64, "seed": 0}
    assert TrainConfig.from_dict(set_fields(config)).settings == {"features": 64}
    settings = fill(universality_pb2.MatchSettings(), {"keys": ["none", "token"], "min_r": 0.25})
    assert MatchSettings.from_dict(set_fields(settings)).min_r == 0.25


@pytest.mark.parametrize(
    "values", [{"k": "two"}, {"k": True}, {"k": 1.5}, {"k": 2**70}, {"k": [1]}, {"colour": 1}]
)
def test_settings_of_the_wrong_type_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="setting"):
        fill(dictionaries_pb2.TrainConfig(), values)
