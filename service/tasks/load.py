"""Finding the task of a kind of job by the name that its row gives."""

from importlib import import_module
from typing import cast

from isogloss.errors import InternalError
from isogloss.service.tasks.heart import Task
from isogloss.service.values.job_kinds import job_kind


def load_task(kind: str) -> Task:
    """Import and return what runs jobs of a kind; it may take seconds, since tasks import torch.

    Raises:
        InvalidInput: there is no such kind.
        InternalError: the module has no such function.
    """
    module, _, name = job_kind(kind).task.partition(":")
    found: object = getattr(import_module(module), name, None)
    if not callable(found):
        raise InternalError(f"module {module} has no function {name!r}, the task of {kind} jobs")
    # what a row names is a Task: the table is ours, and its tests run every row
    return cast("Task", found)
