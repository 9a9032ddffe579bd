"""The table of kinds: every row can be read, written back and run."""

import subprocess
import sys

import pytest

from isogloss.errors import InvalidInput, InvalidName
from isogloss.service.tasks.load import load_task
from isogloss.service.values.job_kinds import JOB_KINDS, job_kind, kind_of, read_spec
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.methods import method_named

SPECS: dict[str, dict[str, object]] = {
    "train": {"dictionary": "d", "recording": "r", "site": "s", "config": {"k": [1, 2]}},
    "probe": {
        "probe": "p",
        "recordings": ["r"],
        "dictionaries": ["x", "y"],
        "holdout": 0.25,
        "grid": "tokens",
    },
    "match": {
        "match": "m",
        "a": "x",
        "b": "y",
        "probe": "p",
        "settings": {"draws": 2},
        "ceilings": ["up"],
        "floors": ["down", "low"],
    },
    "import": {
        "dictionary": "d",
        "probe": "p",
        "upload": "0" * 64,
        "features": 8,
        "recording": "r",
        "site": "s",
        "origin": "a tool",
    },
    "rotate": {"dictionary": "d", "source": "x", "seed": 3},
}
READS = {
    "train": {("recording", "r")},
    "probe": {("recording", "r"), ("dictionary", "x"), ("dictionary", "y")},
    "match": {
        *(("dictionary", "x"), ("dictionary", "y"), ("probe", "p")),
        *(("match", "up"), ("match", "down"), ("match", "low")),
    },
    "import": {("probe", "p"), ("recording", "r")},
    "rotate": {("dictionary", "x")},
}


@pytest.mark.parametrize("name", JOB_KINDS)
def test_a_spec_is_read_and_written_back_without_loss(name: str) -> None:
    spec = read_spec(name, SPECS[name])
    assert spec.to_dict() == SPECS[name]
    assert read_spec(name, spec.to_dict()) == spec
    assert kind_of(spec) is job_kind(name)
    assert spec.target == SPECS[name][JOB_KINDS[name].makes]
    assert spec.reads == READS[name]


def test_a_training_of_several_sites_reads_all_their_recordings() -> None:
    sources = [{"recording": "r", "site": "s"}, {"recording": "q", "site": "t"}]
    values: dict[str, object] = {"dictionary": "d", "sources": sources, "config": {}}
    spec = read_spec("train", values)
    assert spec.to_dict() == values
    assert spec.reads == {("recording", "r"), ("recording", "q")}
    for wrong in ([], "r", ["r"], [{"recording": "r"}]):
        with pytest.raises(InvalidInput, match="of a train job is"):
            read_spec("train", {**values, "sources": wrong})


@pytest.mark.parametrize("name", JOB_KINDS)
def test_what_a_kind_makes_is_got_by_a_call_that_its_row_names(name: str) -> None:
    kind = JOB_KINDS[name]
    method = method_named(f"get_{kind.makes}")
    assert method is not None
    assert "name" in method.request.DESCRIPTOR.fields_by_name
    with pytest.raises(InvalidName):  # the pair is known, and an empty message has no id
        from_message(method.response(), kind.info)


@pytest.mark.parametrize("name", JOB_KINDS)
def test_the_task_of_every_kind_is_there(name: str) -> None:
    task = load_task(name)
    module, _, function = JOB_KINDS[name].task.partition(":")
    assert (task.__module__, task.__name__) == (module, function)


@pytest.mark.parametrize("name", JOB_KINDS)
def test_each_missing_or_mistyped_field_is_named(name: str) -> None:
    optional = {"holdout", "grid", "settings", "ceilings", "floors"}
    optional |= {"match": {"probe"}, "import": {"recording"}}.get(name, set())
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
