"""What a request to train says, in today's form, in the one before, and in both at once."""

import pytest

from isogloss.errors import InvalidInput, InvalidName
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.values.arguments import Setting
from isogloss.service.values.results import SiteRef
from isogloss.service.wire.scalars import to_struct
from isogloss.service.wire.training import asked_config, asked_sources, to_config

ONE = pb.Source(recording="recordings/a", site="s")
TWO = pb.Source(recording="recordings/a", site="t")


def test_one_source_is_read_in_both_forms() -> None:
    new = pb.TrainDictionaryRequest(sources=[ONE])
    old = pb.TrainDictionaryRequest(recording="recordings/a", site="s")
    assert asked_sources(new) == asked_sources(old) == (SiteRef(recording="a", site="s"),)


def test_several_sources_keep_their_order() -> None:
    found = asked_sources(pb.TrainDictionaryRequest(sources=[TWO, ONE]))
    assert [source.site for source in found] == ["t", "s"]


@pytest.mark.parametrize("beside", [{"recording": "recordings/a"}, {"site": "s"}])
def test_both_forms_of_a_source_are_refused(beside: dict[str, str]) -> None:
    request = pb.TrainDictionaryRequest(sources=[ONE], **beside)  # pyright: ignore[reportArgumentType] - texts
    with pytest.raises(InvalidInput, match=r"sources has 1 sites.*leave recording and site out"):
        asked_sources(request)


def test_a_request_without_a_source_is_refused() -> None:
    with pytest.raises(InvalidName, match="recordings/ID"):
        asked_sources(pb.TrainDictionaryRequest(site="s"))


def test_settings_are_read_in_both_forms_and_whole_numbers_stay_whole() -> None:
    old = pb.TrainConfig(kind="topk", features=64, k=8, aux_k=0, seed=3)
    new = pb.TrainConfig(
        kind="topk", settings=to_struct({"features": 64, "k": 8, "aux_k": 0}), seed=3
    )
    wanted = {"kind": "topk", "seed": 3, "settings": {"features": 64, "k": 8, "aux_k": 0}}
    for message in (old, new, pb.TrainConfig.FromString(new.SerializeToString())):
        found = asked_config(message)
        assert found == wanted
        assert repr(found["settings"]).count(".") == 0
    mixed = pb.TrainConfig(features=64, settings=to_struct({"k": 8}))
    assert asked_config(mixed) == {"settings": {"features": 64, "k": 8}}


def test_a_setting_in_both_forms_is_refused_even_where_they_agree() -> None:
    message = pb.TrainConfig(features=64, k=8, settings=to_struct({"k": 8}))
    with pytest.raises(InvalidInput, match=r"k stands in settings and beside it \(k=8\)"):
        asked_config(message)


def test_what_a_caller_gives_becomes_the_message() -> None:
    given: dict[str, Setting] = {"kind": "x", "wiring": None, "seed": 0}
    message = to_config({"features": 8, "l1": 0.5}, given, {"batch_rows": 64})
    assert asked_config(message) == {
        "kind": "x",
        "seed": 0,
        "batch_rows": 64,
        "settings": {"features": 8, "l1": 0.5},
    }
    assert not message.HasField("wiring")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seed": 1}, "seed are given twice"),
        ({"features": 1}, "features are given twice"),
        ({"aux_k": 1}, "more has aux_k.*pass settings"),
        ({"settings": "x"}, "more has settings"),
        ({"colour": 1}, "no setting 'colour'; there are: .*learning_rate"),
    ],
)
def test_what_does_not_belong_into_more_is_refused(more: dict[str, Setting], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        to_config({"features": 8}, {"seed": 0}, more)
