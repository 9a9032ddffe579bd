import pytest

from isogloss.dictionaries import PassportResult
from isogloss.dictionaries.passport.result import PARTS, Difference
from isogloss.errors import InvalidInput, PassportRefused

SITE = PassportResult(differences=(Difference(part="site", text="site a, trained on b"),))
MODEL = PassportResult(differences=(Difference(part="model", text="model c"),))
OLD = PassportResult(cautions=("fine-tuned",), descended=True)


def test_results_add_up_to_the_strongest_answer() -> None:
    assert PassportResult().answer == "same"
    assert (PassportResult() + OLD).answer == "descended"
    assert (OLD + SITE).answer == "other"
    assert (OLD + SITE).cautions == ("fine-tuned",)


def test_what_is_allowed_passes_and_is_said() -> None:
    with pytest.raises(PassportRefused, match=r"site a.*model c.*allow=\['model', 'site'\]"):
        (SITE + MODEL).require()
    with pytest.raises(PassportRefused, match=r"allow=\['model'\]"):
        (SITE + MODEL).require(["site"])
    passed = (SITE + MODEL + OLD).require(["site", "model"])
    assert passed.cautions == (
        "fine-tuned", "allowed to differ: site a, trained on b", "allowed to differ: model c"
    )  # fmt: skip


def test_only_parts_of_a_passport_can_be_allowed() -> None:
    with pytest.raises(InvalidInput, match="the parts of a passport are"):
        PassportResult().require(["sites"])
    with pytest.raises(InvalidInput, match=r"give a list: \['site'\]"):
        PassportResult().require("site")
    PassportResult().require(PARTS)
