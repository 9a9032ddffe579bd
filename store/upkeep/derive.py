"""Write what can be derived from the log of a sealed lane: token columns and documents."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.documents import write_documents
from isogloss.store.formats.zarr_arrays import GroupWriter
from isogloss.store.lanes.files import check_proven, read_commits
from isogloss.store.lanes.lane_directory import (
    COLUMNS_NAME,
    DOCUMENTS_NAME,
    STEP_ENDS_NAME,
    STEP_NAME,
)
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.schema.steps import StepRun, merge_runs, step_runs


def derive_columns(files: FileSystem, directory: Path, spec: RecordingSpec, rows: int) -> None:
    """Write the token columns and documents of a sealed lane as array files.

    Documents become durable first: where ``columns`` exists, both exist. Does nothing where it
    does.
    """
    if files.exists(directory / COLUMNS_NAME):
        return
    group = GroupWriter(files, directory / COLUMNS_NAME)
    documents: list[Document] = []
    steps: list[StepRun] = []
    try:
        names = ["token_id", "document", "position"] + ["span"] * spec.has_spans
        wide = {"document": np.uint64}
        writers = {
            name: group.array(
                name, np.dtype(wide.get(name, np.uint32)), (2,) if name == "span" else ()
            )
            for name in names
        }
        for commit in read_commits(files, directory, rows):
            writers["token_id"].append(commit.columns.token_id)
            writers["document"].append(commit.columns.document)
            writers["position"].append(commit.columns.position)
            if commit.columns.span is not None:
                writers["span"].append(commit.columns.span)
            steps.extend(step_runs(commit.columns.step))
            documents.extend(commit.documents)
        check_proven(directory, writers["token_id"].rows, rows)
        write_documents(files, directory / DOCUMENTS_NAME, documents)
        group.finish({"rows": rows, **_write_steps(group, merge_runs(steps))})
    except BaseException:
        group.abandon()
        raise


def _write_steps(group: GroupWriter, runs: list[StepRun]) -> Mapping[str, int]:
    """Write the steps of rows as runs, and where each ends; nothing where all are 0.

    Args:
        group: the columns.
        runs: steps, each with a number of rows.

    Returns:
        The attributes of the columns that say so.
    """
    if all(step == 0 for step, _ in runs):
        return {}
    group.write(STEP_NAME, np.array([step for step, _ in runs], np.uint64))
    group.write(STEP_ENDS_NAME, np.cumsum([rows for _, rows in runs], dtype=np.int64))
    return {"step_runs": len(runs)}
