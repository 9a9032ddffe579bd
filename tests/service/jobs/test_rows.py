"""Jobs as rows: what asks for the same work, and what is no plain JSON."""

import json
import sqlite3

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.jobs.rows import asks_for, changes_of, spec_text
from isogloss.service.values.job_kinds import kind_of
from isogloss.service.values.job_specs import MatchSpec

SPEC = MatchSpec(match="m", a="a", b="b", settings={"min_r": 0.5})
KIND = kind_of(SPEC)


def row(kind: str, spec: str) -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    found: sqlite3.Row = connection.execute("select ? as kind, ? as spec", (kind, spec)).fetchone()
    connection.close()
    return found


def test_the_same_work_is_known_whatever_the_order_of_its_fields() -> None:
    text = spec_text(KIND, SPEC)
    turned = json.dumps(dict(reversed(json.loads(text).items())))
    assert asks_for(row("match", turned), KIND, text)
    assert not asks_for(row("probe", text), KIND, text)
    other = spec_text(KIND, MatchSpec(match="m", a="a", b="c", settings={"min_r": 0.5}))
    assert not asks_for(row("match", other), KIND, text)
    assert not asks_for(row("match", "{}"), KIND, text)


@pytest.mark.parametrize("value", [float("nan"), object()], ids=["nan", "an object"])
def test_what_json_does_not_hold_is_named(value: object) -> None:
    with pytest.raises(InvalidInput, match="the spec of a match job must be plain JSON"):
        spec_text(KIND, MatchSpec(match="m", a="a", b="b", settings={"min_r": value}))


def test_kinds_that_change_the_same_things_say_so() -> None:
    assert changes_of("match") == changes_of("probe") != ""
    assert changes_of("train") == changes_of("no such kind") == ""
