"""How far a command is that runs a model many times: the passes that it made, of those to come."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.models import LoadedModel

Announce = Callable[[str, int], None]
"""Takes what is done next, and how many passes of the model that takes (0: nobody knows)."""


@contextmanager
def counted_passes(model: "LoadedModel", *, is_quiet: bool) -> Generator[Announce]:
    """Show on a terminal how many passes a model has made, and how long that took.

    Args:
        model: whose passes are counted as they begin, since some are broken off behind a site, by
            a hook that is gone afterwards.
        is_quiet: whether nothing is shown.
    """
    from isogloss.models import unwrapped
    from isogloss.service.cli.output import progress

    text, done, total = "", 0, 0
    with progress(is_quiet=is_quiet) as show:

        def announce(next_text: str, passes: int) -> None:
            nonlocal text, done, total
            text, done, total = next_text, 0, passes
            show(text, 0, total)

        def count(*of_a_pass: object) -> None:
            nonlocal done
            done += 1
            of = f" of {max(done, total):,}" if total else ""
            show(f"{text}: {done:,}{of} passes", done, max(done, total) if total else 0)

        handle = unwrapped(model.module).register_forward_pre_hook(count)
        try:
            yield announce
        finally:
            handle.remove()
