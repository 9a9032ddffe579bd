"""The training step at which a dictionary is compared, where a recording has rows of several."""

from collections.abc import Sequence

from isogloss.errors import InvalidInput
from isogloss.store import RecordingReader


def step_to_compare(
    reader: RecordingReader, trained: Sequence[int], asked: Sequence[int] = ()
) -> int:
    """Choose the training step whose rows stand for the segments of a probe.

    A document has rows at several steps, and a segment needs one of them. The only step of the
    recording is taken; else the one of those asked for that the recording has; else the one that
    the dictionary was trained on. Where several are asked for, the dictionary's own among them.

    Args:
        reader: reads the recording whose rows are encoded.
        trained: steps of the recording that the dictionary was trained on.
        asked: steps that the probe compares at, of any of its recordings; none: not said.

    Returns:
        The step.

    Raises:
        InvalidInput: these are no step of the recording, or several.
    """
    here = tuple(reader.rows_of_steps())
    if len(here) == 1:
        return here[0]
    found = [step for step in here if step in (asked or trained)]
    if len(found) > 1:
        found = [step for step in found if step in trained] or found
    if len(found) != 1:
        wanted = f"asked for: {_written(asked)}" if asked else f"trained on: {_written(trained)}"
        raise InvalidInput(
            f"recording {reader.spec.recording!r} has rows of training steps {_written(here)} "
            f"({wanted}), and features are compared at one: say which, such as steps=[{here[-1]}] "
            f"(--steps {here[-1]} on the command line)"
            if here
            else f"recording {reader.spec.recording!r} has no rows: record some first"
        )
    return found[0]


def _written(steps: Sequence[int]) -> str:
    shown = [str(step) for step in steps]
    return ", ".join(shown if len(shown) < 9 else [*shown[:7], "...", shown[-1]]) or "none"
