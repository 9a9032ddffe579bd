"""Whether the rows of sites stand in the order of the token ids: followed in some passes.

Following costs some microseconds an operation, so not each pass is followed. What is not followed
in the first ones is refused by name, never believed.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from isogloss.errors import ShapeError
from isogloss.models.passes.axes.tables import TracedAxes
from isogloss.models.passes.direct import calls_forward_itself
from isogloss.models.passes.ids.stacks import is_of_library

_log = logging.getLogger(__name__)

_EVERY = 64
"""One pass in so many is followed, whatever is known."""


class OrderWatch:
    """Says which passes are followed, and refuses sites whose rows are in another order."""

    def __init__(self, module: nn.Module, names: Iterable[str], *, is_said: bool) -> None:
        """Begin without knowledge.

        Args:
            module: the model. Those of transformers and TransformerLens are believed where they
                cannot be followed, and so are distributed ones.
            names: of the sites.
            is_said: whether the user says that outputs are ``[sequences, tokens, width]``.
        """
        is_known = any(map(is_of_library, module.modules())) or calls_forward_itself(module)
        self._is_believed = is_said or is_known or _is_distributed(module)
        self._refused: dict[str, ShapeError | None] = {}
        self._names = tuple(names)
        self._is_always = False
        self._sizes: list[tuple[int, int]] = []
        self._kinds: set[tuple[bool, ...]] = set()
        self._widths: set[int] = set()
        self._since = 0

    def wants(self, tables: Iterable[Tensor], *, is_training: bool) -> bool:
        """Return whether the pass that begins is to be followed; it is counted.

        It is where a site is not known yet, or was refused once, or numbers decide the order of
        its rows; where there are more or fewer texts or tokens than ever before; where sizes are
        equal that were not before, or the mode is another one; and now and then.

        Args:
            tables: the ids that the pass is given, each ``[a, b]``.
            is_training: its mode.
        """
        sizes = [size for one in tables for size in one.shape]
        is_new = False
        for i, size in enumerate(sizes):
            least, most = self._sizes[i] if i < len(self._sizes) else (size, size)
            is_new |= not least <= size <= most
            self._sizes[i : i + 1] = [(min(least, size), max(most, size))]
        same = [n == m for i, n in enumerate(sizes) for m in sizes[:i]]
        alike = [size in self._widths or size == 1 for size in sizes]
        kind = is_training, *same, *alike
        is_new |= kind not in self._kinds
        self._kinds.add(kind)
        is_open = len(self._refused) < len(self._names)
        self._since += 1
        return is_new or is_open or self._is_always or self._since > _EVERY

    def see(
        self, name: str, traced: TracedAxes | None, some: Sequence[tuple[Tensor, bool]]
    ) -> None:
        """Learn from one pass, or recall what others told.

        Args:
            name: of the site.
            traced: what was followed to its output; None: the pass was not followed.
            some: the ids that its rows may be of, each ``[sequences, tokens]`` or turned, and
                whether they are turned.

        Raises:
            ShapeError: its rows are in another order, or that cannot be followed.
        """
        if traced is not None:
            self._learn(name, traced, some)
        error = self._refused.get(name)
        if error is not None:
            raise error.with_traceback(None)

    def _learn(self, name: str, traced: TracedAxes, some: Sequence[tuple[Tensor, bool]]) -> None:
        ids = [one for one, _ in some]
        before = self._refused.get(name, self)
        found: ShapeError | None = None
        if traced.is_moved_from(ids):
            found = in_other_order(name)
        elif not (self._is_believed or any(_is_in_order(traced, *one) for one in some)):
            found = not_followed(name, traced.lost)
        self._refused[name] = found
        self._is_always |= found is not None or traced.varies(ids)
        self._widths |= {
            size for size, label in zip(traced.shape, traced.labels, strict=True) if label is None
        }
        if found is not None and before is None and self._since > 1:
            _log.warning(
                "%s; up to %d passes before, which were recorded, were not looked at", found,
                self._since - 1,
            )  # fmt: skip
        self._since = 0


def _is_in_order(traced: TracedAxes, ids: Tensor, is_turned: bool) -> bool:
    return ids.numel() <= 1 or traced.places(ids, is_turned=is_turned) is not None


def _is_distributed(module: nn.Module) -> bool:
    weights = (cast("object", one) for one in module.parameters())
    return any(hasattr(one, "placements") for one in weights)


def in_other_order(name: str) -> ShapeError:
    """Return the error for a site at which the model has put the rows in another order.

    Args:
        name: of the site.
    """
    return ShapeError(
        f"site {name!r} has its rows in another order than the token ids that the model read: it "
        "flips, rolls or picks them, and rows would carry wrong tokens; choose a submodule "
        "before that, or behind the one that puts them back"
    )


def not_followed(name: str, lost: str) -> ShapeError:
    """Return the error for a site of which it is not known whose rows it gives.

    Args:
        name: of the site.
        lost: the operation behind which that is not known any more; empty: none was seen.
    """
    where = f"behind {lost!r}" if lost else "through what torch does not show (numpy, C++)"
    return ShapeError(
        f"site {name!r}: whether its rows are in the order of the token ids cannot be followed "
        f"{where}; choose a submodule before that, or one whose output is added to its input; if "
        'its output is [sequences, tokens, width] in that order, say so by layout="batch_first"'
    )


__all__ = ["OrderWatch"]
