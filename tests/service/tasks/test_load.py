"""A kind of job names its task."""

import dataclasses
from types import MappingProxyType

import pytest

from isogloss.errors import InternalError, InvalidInput
from isogloss.service.tasks.load import load_task
from isogloss.service.tasks.match import match_task
from isogloss.service.values import job_kinds
from isogloss.service.values.job_kinds import JOB_KINDS


def test_the_task_of_a_kind_is_the_function_that_its_row_names() -> None:
    assert load_task("match") is match_task
    with pytest.raises(InvalidInput, match="job kind 'bake' is unknown"):
        load_task("bake")


@pytest.mark.parametrize("name", ["no_such_function", "REPORT_FILE", ""])
def test_a_name_of_no_function_is_a_defect(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    row = dataclasses.replace(JOB_KINDS["match"], task=f"isogloss.service.tasks.match:{name}")
    monkeypatch.setattr(job_kinds, "JOB_KINDS", MappingProxyType({"match": row}))
    with pytest.raises(InternalError, match=f"has no function {name!r}, the task of match jobs"):
        load_task("match")
