"""Ids that are made up say what they are of, are allowed, and differ with what they are of."""

from hypothesis import given
from hypothesis import strategies as st

from isogloss.service.values import ids
from isogloss.service.values.results import DictionaryInfo, SiteRef
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


def test_a_made_up_id_of_long_names_is_as_long_as_ids_may_be_and_still_differs() -> None:
    names = ["n" * 63 + end for end in ("", "-1", "-2")]
    made = [ids.slug(name) for name in names]
    made += [ids.match_id(name, "b" * 63, None, {}) for name in names]
    sources = [[SiteRef(recording=name, site="s")] for name in names]
    made += [ids.dictionary_id(source, 1 << 20, {}) for source in sources]
    assert [check_id(name) for name in made] == made
    assert len(set(made)) == 9
    assert all(name.startswith("n" * 26) for name in made)


def test_a_dictionary_is_named_by_itself_or_by_its_id() -> None:
    info = DictionaryInfo(
        id="small", uid="d1", etag="e", kind="topk", features=8, width=4, settings={}, wiring="sae",
        sources=(), metrics={}, provenance={}, created=0.0,
    )  # fmt: skip
    assert (ids.id_of(info), ids.id_of("small")) == ("small", "small")


def test_matches_to_stand_beside_are_part_of_the_work_and_none_are_not() -> None:
    alone = ids.match_id("a", "b", None, {})
    assert alone == ids.match_id("a", "b", None, {}, references=[[], []])
    beside = ids.match_id("a", "b", None, {}, references=[["same-model"], []])
    assert (
        len({alone, beside, ids.match_id("a", "b", None, {}, references=[[], ["same-model"]])}) == 3
    )
