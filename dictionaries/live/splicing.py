"""Splice a dictionary into a live model, for as long as a ``with`` block lasts."""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import cast

from torch import Tensor

from isogloss.dictionaries.live.rewriting import Edits, Rewriting, Spliced
from isogloss.dictionaries.passport.checks import (
    LEAST_ROWS,
    check_begin,
    check_live_site,
    check_model,
    check_rows,
)
from isogloss.dictionaries.passport.passport import Passport
from isogloss.dictionaries.passport.result import PassportResult, check_parts
from isogloss.errors import InvalidInput
from isogloss.models import (
    begins_with,
    find_sites,
    splice,
    unwrapped,
    watch_first_ids,
)


@contextmanager
def spliced(
    dictionary: Rewriting,
    model: object,
    site: str | Sequence[str] | None,
    edits: Edits,
    passport: Passport | None,
    *,
    keep_error: bool,
    allow: Collection[str],
) -> Generator[PassportResult]:
    """Let a dictionary rewrite activations of a model; see ``DictionaryModule.spliced``.

    Args:
        dictionary: what rewrites.
        model: a module, a wrapper of one, or a loaded model.
        site: where; two for a transcoder.
        edits: features that are set.
        passport: what the dictionary was trained on; None: not known.
        keep_error: whether what the dictionary does not explain stays.
        allow: parts of the passport that may differ.

    Yields:
        What the check of the passport came to.
    """
    check_parts(allow)
    sites = _sites_of(dictionary, model, site, passport)
    result = PassportResult()
    if passport is not None:
        found = check_model(passport, model) + check_live_site(passport, model, sites)
        result = found.require(allow)
    passes = Spliced(dictionary, edits, keep_error=keep_error)
    first, *rest = sites
    checked = _Checked(passport, allow)
    replacements: dict[str, Callable[[Tensor], Tensor]]
    if rest:
        replacements = {first: checked.before(passes.read), rest[0]: passes.write}
    else:
        replacements = {first: checked.before(passes.write)}
    with watch_first_ids(model, checked.look_at_ids), splice(unwrapped(model), replacements):
        yield result


def _sites_of(
    dictionary: Rewriting,
    model: object,
    site: str | Sequence[str] | None,
    passport: Passport | None,
) -> tuple[str, ...]:
    """Return the paths of the sites to read and to replace."""
    if dictionary.wiring not in ("sae", "transcoder"):
        raise InvalidInput(
            f"a dictionary of wiring {dictionary.wiring!r} reads several sites at once, of which "
            "the first has gone on when the last is known; splice an sae or a transcoder"
        )
    if site is None:
        site = passport.sites if passport is not None else ()
    if not isinstance(cast("object", site), str | Sequence):
        raise InvalidInput(f"site is {site!r}, wanted the path of a submodule, such as 'h.3'")
    given = (site,) if isinstance(site, str) else tuple(site)
    wanted = 2 if dictionary.wiring == "transcoder" else 1
    names = [name for one in given for name in find_sites(unwrapped(model), [one])]
    if len(names) != wanted or len(set(names)) != wanted:
        raise InvalidInput(
            f"site {site!r} names {len(names)} places {names[:4]}; this dictionary wants {wanted}"
            + (": the one to read, then the one to replace" if wanted == 2 else "")
        )
    return tuple(names)


class _Checked:
    """Looks at the first pass: what stands before the text, and how large the rows are."""

    def __init__(self, passport: Passport | None, allow: Collection[str]) -> None:
        self._passport = passport
        self._allow = allow
        self._seen = False

    def before(self, replace: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def look(activations: Tensor) -> Tensor:
            passport = self._passport
            width = passport.widths[0] if passport is not None and passport.widths else 0
            is_enough = width and activations.numel() >= LEAST_ROWS * width
            if passport is not None and is_enough and not self._seen:
                self._seen = True
                if activations.is_floating_point() and not activations.numel() % width:
                    check_rows(passport, activations).require(self._allow)
            return replace(activations)  # which refuses what is not of the width

        return look

    def look_at_ids(self, ids: Tensor) -> None:
        if self._passport is None or not self._passport.begins:
            return
        if ids.shape[1] < 2:  # the next token of a text that began elsewhere, or nothing of one
            return
        wanted = [int(one) for one in self._passport.begins.split()]
        if not begins_with(ids, wanted):
            check_begin(self._passport, "").require(self._allow)
