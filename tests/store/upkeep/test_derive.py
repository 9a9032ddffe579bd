"""Token columns and documents are derived from the log, once, and only when it proves all rows."""

import shutil
from pathlib import Path

import pytest

from isogloss.errors import CorruptData
from isogloss.store import Store
from isogloss.store.formats.documents import read_documents
from isogloss.store.formats.zarr_arrays import read_arrays
from isogloss.store.lanes.lane_directory import COLUMNS_NAME, DOCUMENTS_NAME
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.upkeep.derive import derive_columns


@pytest.mark.parametrize("has_spans", [True, False])
def test_columns_and_documents_are_those_of_the_batches(tmp_path: Path, has_spans: bool) -> None:
    spec = sample_spec(has_spans=has_spans)
    batches = [sample_batch(spec, "p", number) for number in range(1, 6)]
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [])
        with recording.open_lane() as lane:
            for batch in batches:
                lane.append([batch])
        (state,) = recording.lanes()
        files, directory = recording.files, recording.directory / "lanes" / state.name
        with pytest.raises(CorruptData, match="proves"):
            derive_columns(files, directory, spec, state.rows + 1)
        assert not {COLUMNS_NAME, DOCUMENTS_NAME} & {path.name for path in directory.iterdir()}
        derive_columns(files, directory, spec, state.rows)
        derive_columns(files, directory, spec, state.rows + 1)  # there already: nothing to do
        arrays, attributes = read_arrays(directory / COLUMNS_NAME)
        assert attributes == {"rows": state.rows}
        assert set(arrays) == {"token_id", "document", "position"} | (
            {"span"} if has_spans else set()
        )
        for name, found in arrays.items():
            wanted = b"".join(getattr(batch, name).tobytes() for batch in batches)
            assert found.tobytes() == wanted
        documents = [batch.documents[0] for batch in batches]
        assert read_documents(files, directory / DOCUMENTS_NAME) == documents


def test_steps_are_derived_as_runs_where_there_are_any(tmp_path: Path) -> None:
    spec = sample_spec()
    steps = [0, 5, 5, 6, 0]
    batches = [sample_batch(spec, "p", n, step=step) for n, step in enumerate(steps, 1)]
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [])
        with recording.open_lane() as lane:
            for batch in batches:
                lane.append([batch])
        before = recording.reader().tokens()
        recording.derive()
        (columns,) = recording.directory.glob("lanes/*/columns")
        arrays, attributes = read_arrays(columns)
        rows = [batch.rows for batch in batches]
        ends = [rows[0], sum(rows[:3]), sum(rows[:4]), sum(rows)]
        assert attributes == {"rows": sum(rows), "step_runs": 4}
        assert arrays["step"].tolist() == [0, 5, 6, 0]
        assert arrays["step_ends"].tolist() == ends
        after = recording.reader().tokens()
        assert after.step.tolist() == before.step.tolist()
        middle = recording.reader().tokens(rows[0] - 1, ends[1] + 1).step.tolist()
        assert middle == [0, *[5] * (ends[1] - rows[0]), 6]
        check_sample(recording.reader(), {"p": 5})
        shutil.rmtree(columns / "step_ends")
        assert [found.message for found in recording.verify()] != []
        with pytest.raises(CorruptData, match="lost their steps"):
            recording.reader().tokens()
