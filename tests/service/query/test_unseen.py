"""Questions about rows of a text, a direction and codes, on made dictionaries."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.service import made, planted

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.service.query.queries import Queries
from isogloss.service.query.unseen import SiteRows, UnseenQueries
from isogloss.store import Store

SMALL = made.directions("small-docs", 1)
SITE = planted.SITES["small-docs"]


@pytest.fixture(scope="module")
def queries(made_store: Path) -> Iterator[Queries]:
    with Store.attach(made_store) as store:
        yield Queries(store)


@pytest.fixture(scope="module")
def unseen(queries: Queries) -> UnseenQueries:
    return UnseenQueries(queries)


def site_rows(rows: np.ndarray, site: str = SITE) -> SiteRows:
    return SiteRows(recording="small-docs", site=site, rows=rows.astype(np.float32))


def test_features_that_fire_on_rows_are_named_with_how_strongly_and_where(
    unseen: UnseenQueries, queries: Queries
) -> None:
    rows = np.stack([0.5 * SMALL[3], 2.0 * SMALL[3], 1.5 * SMALL[14]])
    hits = unseen.firing([site_rows(rows)], count=2)
    assert [(hit.dictionary, hit.feature) for hit in hits[:2]] == [("small", 3), ("small", 14)]
    first = hits[0]
    assert (first.row, first.rows) == (1, 2)
    assert first.activation == pytest.approx(2.0, abs=1e-4)
    probe = queries.store.catalog.get("probe", made.PROBE)
    _, values = queries.probed("small", probe).codes.feature(3)
    assert first.share == pytest.approx(first.activation / values.max(), rel=1e-5)
    assert [one.dictionary for one in hits.skipped] == ["large"]
    assert "encoder.layer.2" in hits.skipped[0].why


def test_rows_of_a_site_are_those_of_its_other_name_where_no_others_are_given(
    unseen: UnseenQueries,
) -> None:
    wanted = unseen.firing([site_rows(SMALL[3:4])], count=1)
    assert unseen.firing([site_rows(SMALL[3:4], f"model.{SITE}")], count=1) == wanted
    both = [site_rows(SMALL[3:4]), site_rows(SMALL[14:15], f"model.{SITE}")]
    for rows in (both, both[::-1]):
        assert unseen.firing(rows, count=1) == wanted


def test_the_feature_that_writes_a_direction_is_found_by_its_cosine(unseen: UnseenQueries) -> None:
    tilted = 3 * SMALL[5] + SMALL[6]
    hits = unseen.writing(site_rows(tilted[None], site=""), count=24)
    cosines = SMALL @ (tilted / np.linalg.norm(tilted))
    assert [hit.feature for hit in hits] == np.argsort(-cosines, kind="stable").tolist()
    assert hits[0].feature == 5
    np.testing.assert_allclose([h.cosine for h in hits], sorted(cosines)[::-1], atol=1e-6)
    assert hits[0].read_cosine == pytest.approx(hits[0].cosine)  # encoder and decoder are one


def test_codes_find_the_feature_that_fires_like_them(
    unseen: UnseenQueries, queries: Queries
) -> None:
    probe = queries.store.catalog.get("probe", made.PROBE)
    codes = queries.probed("small", probe).features_matrix([9]).toarray()[0]
    hits = unseen.firing_like(codes.astype(np.float32), made.PROBE, count=1)
    assert (hits[0].dictionary, hits[0].feature, round(hits[0].r, 6)) == ("small", 9, 1.0)
    assert (hits[1].dictionary, hits[1].feature) == ("large", 9)
    assert hits.probe == made.PROBE


def test_what_fits_no_dictionary_is_refused_with_the_reason_of_each(
    unseen: UnseenQueries,
) -> None:
    elsewhere = SiteRows(recording="small-docs", site="nowhere", rows=SMALL[:1])
    with pytest.raises(InvalidInput, match=r"large: it reads .* small: it reads 'layer.1'"):
        unseen.firing([elsewhere])
    with pytest.raises(InvalidInput, match="small: its rows have width 24, the direction 7"):
        unseen.writing(site_rows(np.ones((1, 7)), site=""))
    with pytest.raises(InvalidInput, match="length 0"):
        unseen.writing(site_rows(np.zeros((1, 24))))
    with pytest.raises(ShapeError, match="one row"):
        unseen.writing(site_rows(SMALL[:2]))
    with pytest.raises(ShapeError, match="width 3"):
        unseen.firing([site_rows(np.ones((2, 3)))])
    with pytest.raises(NotFound, match="no dictionary 'lost'"):
        unseen.firing([site_rows(SMALL[:1])], among=["lost"])
    for count in (0, 101):
        with pytest.raises(InvalidInput, match=f"count is {count}"):
            unseen.firing([site_rows(SMALL[:1])], count=count)
