"""Exports are read back, checked against their manifest."""

import json
from pathlib import Path

import pytest

from isogloss.errors import (
    CorruptData,
    InvalidInput,
    NotFound,
    UnsupportedVersion,
)
from isogloss.store import (
    Form,
    RecordingReader,
    SiteSpec,
    Store,
    export_recording,
    export_rows,
    import_recording,
    open_export,
)
from isogloss.store.exchange.export import FORMS
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()


@pytest.mark.parametrize("form", FORMS)
def test_an_export_imported_again_is_equal(tmp_path: Path, form: Form) -> None:
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        recording = one.create_recording(SPEC, ["a", "\ud800"], shard_bytes=3 << 10)
        for first in (1, 4):
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, p, first + i) for i in range(3) for p in "pq"])
        reader = recording.reader()
        vocabulary = recording.vocabulary()
        target = tmp_path / "export"
        export_rows(reader, target, form=form, vocabulary=vocabulary, shard_bytes=5000)
        plan = open_export(target)
        again = import_recording(
            two, plan.spec, plan.vocabulary, plan.sources, columns=plan.columns
        )
        assert again.spec == recording.spec
        assert again.vocabulary() == vocabulary
        other = again.reader()
        for site in SPEC.sites:
            ours, theirs = (
                reader.read(site.name, 0, reader.rows),
                other.read(site.name, 0, other.rows),
            )
            assert theirs.tobytes() == ours.tobytes()
        for name in ("token_id", "document", "position", "span"):
            assert (
                getattr(other.tokens(), name).tobytes() == getattr(reader.tokens(), name).tobytes()
            )
        assert other.documents() == reader.documents()
        assert two.verify() == []


@pytest.mark.parametrize("form", FORMS)
def test_steps_go_out_and_come_in_again(tmp_path: Path, form: Form) -> None:
    steps = [0, 7, 7, (1 << 64) - 1, 2, 0]
    sent = [sample_batch(SPEC, "p", n, step=step) for n, step in enumerate(steps, 1)]
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        recording = one.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append(sent)
        target = tmp_path / "export"
        export_rows(recording.reader(), target, form=form, shard_bytes=5000)
        plan = open_export(target)
        again = import_recording(
            two, plan.spec, plan.vocabulary, plan.sources, columns=plan.columns
        )
        found, wanted = again.reader(), recording.reader()
        assert found.tokens().step.tolist() == wanted.tokens().step.tolist()
        assert found.steps() == wanted.steps()
        assert again.cursor("import") == 5  # a batch each time the step changes
        assert check_sample_rows(found) == check_sample_rows(wanted)
        assert two.verify() == []
        name = {"zarr": "zarr.json"}.get(form, "manifest.json")
        document = json.loads((target / name).read_bytes())
        assert document.get("attributes", document)["schema_version"] == 2


def check_sample_rows(reader: RecordingReader) -> list[bytes]:
    tokens = reader.tokens()
    return [
        *(reader.read(site.name, 0, reader.rows).tobytes() for site in SPEC.sites),
        *(column.tobytes() for column in (tokens.token_id, tokens.document, tokens.position)),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_an_export_without_steps_is_as_ever_also_where_a_site_is_named_so(
    tmp_path: Path, form: Form
) -> None:
    site = SiteSpec(name="step", width=3, dtype="float32")
    spec = sample_spec(sites=(site,), has_spans=False)
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        recording = one.create_recording(spec, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", 1)])
        export_recording(recording, tmp_path / "export", form=form)
        plan = open_export(tmp_path / "export")
        assert plan.columns.step is None
        found = import_recording(
            two, plan.spec, plan.vocabulary, plan.sources, columns=plan.columns
        )
        assert not found.has_steps()
        assert found.reader().read("step", 0, 1).shape == (1, 3)
        assert not (tmp_path / "export" / "step").exists()
        with recording.open_lane() as lane:
            lane.append([sample_batch(spec, "p", 2, step=1)])
        if form == "safetensors":
            with pytest.raises(InvalidInput, match="named like token columns"):
                export_recording(recording, tmp_path / "more", form=form)
        else:
            export_recording(recording, tmp_path / "more", form=form)
            assert open_export(tmp_path / "more").columns.step is not None


def import_export(export: Path, store: Path) -> None:
    plan = open_export(export)
    with Store.open(store) as other:
        import_recording(other, plan.spec, plan.vocabulary, plan.sources, columns=plan.columns)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_export_is_refused(tmp_path: Path, form: Form) -> None:
    with Store.open(tmp_path / "one") as store:
        recording = store.create_recording(SPEC, ["a"])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", i) for i in range(1, 4)])
        export_recording(recording, tmp_path / "export", form=form)
        for number, path in enumerate(sorted((tmp_path / "export").rglob("*"))):
            if path.is_dir() or "documents_id" in str(path):  # the ids follow from the keys
                continue
            whole = path.read_bytes()
            damaged = bytearray(whole)
            damaged[len(whole) // 2] ^= 2
            for content in (bytes(damaged), whole[: len(whole) // 2], None):
                path.unlink()
                if content is not None:
                    path.write_bytes(content)
                if path.name == "manifest.json" and content is None:
                    continue  # without it, it is a directory like any other
                with pytest.raises((CorruptData, UnsupportedVersion, NotFound)):
                    import_export(tmp_path / "export", tmp_path / f"s{number}")
            path.write_bytes(whole)
    with pytest.raises(NotFound):
        open_export(tmp_path / "nothing")
