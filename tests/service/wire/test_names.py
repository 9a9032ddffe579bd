import pytest

from isogloss.errors import InvalidInput, InvalidName
from isogloss.service.values.results import FeatureRef
from isogloss.service.wire.names import from_feature_name, from_name, to_feature_name, to_name


@pytest.mark.parametrize(
    "name", ["", "recordings/", "recordings/A", "probes/a", "recordings/a/b", "recordings/../x"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        from_name("recordings", name)


@pytest.mark.parametrize(
    "name", ["dictionaries/a", "dictionaries/a/features/-1", "dictionaries/a/features/1.5", "a/1"]
)
def test_a_feature_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        from_feature_name(name)


def test_names_come_back() -> None:
    assert from_name("recordings", to_name("recordings", "a-1")) == "a-1"
    ref = FeatureRef(dictionary="a", feature=1207)
    assert from_feature_name(to_feature_name(ref)) == ref
    with pytest.raises(InvalidName, match="lower-case"):
        to_name("recordings", "A")
    with pytest.raises(InvalidInput):
        FeatureRef(dictionary="a", feature=-1)
