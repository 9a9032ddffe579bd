"""The table of kinds: every row can be read, written back and run."""

import subprocess
import sys

import pytest

from isogloss.errors import InvalidInput, InvalidName
from isogloss.service.tasks.load import load_task
from isogloss.service.values.job_kinds import JOB_KINDS, job_kind, kind_of, read_spec

SPECS: dict[str, dict[str, object]] = {
    "train": {"dictionary": "d", "recording": "r", "site": "s", "config": {"k": [1, 2]}},
    "probe": {
        "probe": "p",
        "recordings": ["r"],
        "dictionaries": ["x", "y"],
        "holdout": 0.25,
        "grid": "tokens",
    },
    "match": {"match": "m", "a": "x", "b": "y", "probe": "p", "settings": {"draws": 2}},
}
READS = {
    "train": {("recording", "r")},
    "probe": {("recording", "r"), ("dictionary", "x"), ("dictionary", "y")},
    "match": {("dictionary", "x"), ("dictionary", "y"), ("probe", "p")},
}


@pytest.mark.parametrize("name", JOB_KINDS)
def test_a_spec_is_read_and_written_back_without_loss(name: str) -> None:
    spec = read_spec(name, SPECS[name])
    assert spec.to_dict() == SPECS[name]
    assert read_spec(name, spec.to_dict()) == spec
    assert kind_of(spec) is job_kind(name)
    assert spec.target == SPECS[name][JOB_KINDS[name].makes]
    assert spec.reads == READS[name]


@pytest.mark.parametrize("name", JOB_KINDS)
def test_the_task_of_every_kind_is_there(name: str) -> None:
    task = load_task(name)
    module, _, function = JOB_KINDS[name].task.partition(":")
    assert (task.__module__, task.__name__) == (module, function)


@pytest.mark.parametrize("name", JOB_KINDS)
def test_each_missing_or_mistyped_field_is_named(name: str) -> None:
    optional = {"holdout", "grid", "settings"} | ({"probe"} if name == "match" else set[str]())
    for field in SPECS[name]:
        without = {key: value for key, value in SPECS[name].items() if key != field}
        if field in optional:
            read_spec(name, without)
        else:
            with pytest.raises(InvalidInput, match=f"field '{field}' of a {name} job is missing"):
                read_spec(name, without)
        with pytest.raises(InvalidInput, match=field):
            read_spec(name, {**SPECS[name], field: object()})


def test_names_of_what_is_made_are_checked() -> None:
    for name, kind in JOB_KINDS.items():
        with pytest.raises(InvalidName, match="must match"):
            read_spec(name, {**SPECS[name], kind.makes: "../up"})


def test_an_unknown_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="use one of train, probe, match"):
        read_spec("traim", {})


def test_the_table_loads_nothing_heavy() -> None:
    code = (
        "import sys, isogloss.service.values.job_kinds;"
        "sys.exit(bool({'torch', 'faiss', 'zarr', 'grpc', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
