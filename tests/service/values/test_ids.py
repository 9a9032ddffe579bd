from hypothesis import given
from hypothesis import strategies as st

from isogloss.service.values import ids
from isogloss.service.values.results import SiteRef
from isogloss.store import check_id


@given(st.text(max_size=90), st.text(max_size=30), st.integers(1, 2**20))
def test_made_up_ids_are_valid_and_differ_with_the_work(
    site: str, other: str, features: int
) -> None:
    config: dict[str, object] = {"settings": {"features": features, "k": 4}}
    source, elsewhere = (SiteRef(recording="a-recording", site=name) for name in (site, other))
    made = ids.dictionary_id([source], features, config)
    assert check_id(made) == made
    assert made == ids.dictionary_id([source], features, {**config, "seed": None})
    assert made != ids.dictionary_id([source], features, {**config, "seed": 1})
    if other != site:
        assert made != ids.dictionary_id([elsewhere], features, config)
    assert made != ids.dictionary_id([source, elsewhere], features, config)
    match = ids.match_id(made, "b", None, {})
    assert check_id(match) == match
    assert match != ids.match_id("b", made, None, {})
