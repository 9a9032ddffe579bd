"""Give the rows of each forward pass of a live module, with the token that each row is of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from isogloss.errors import ShapeError
from isogloss.models.hooks import Capture


@dataclass(frozen=True, kw_only=True, eq=False)
class PassRows:
    """The rows of whole documents that a module read, in the order of the documents."""

    sites: Mapping[str, Tensor]
    """Activations of each site, ``[rows, width]``: detached copies on the module's device."""
    token_id: NDArray[np.uint32]
    """``[rows]``."""
    position: NDArray[np.uint32]
    """Position of each row in its document, ``[rows]``."""
    document_index: NDArray[np.int64]
    """For each row the index of its document in ``documents``, ``[rows]``, ascending."""
    documents: tuple[NDArray[np.int64], ...]
    """Token ids of each document, padding left out and special tokens kept: what names it."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.token_id)


class PassReader:
    """Reads each forward pass of a module while it is entered.

    Each sequence of a pass is a document. Its rows are the positions that the attention mask keeps,
    without special tokens.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[str],
        *,
        take: Callable[[PassRows], None],
        leave_out: Callable[[Exception], None],
        special_ids: Iterable[int] = (),
    ) -> None:
        """Make a reader; it sets its hooks when it is entered.

        Args:
            module: the live module; its forward pass takes ``input_ids`` by name, or as the first
                argument.
            sites: names of submodules.
            take: called in the thread that runs the module with the rows of documents. What it
                raises reaches the caller of the module.
            leave_out: called in that thread with the error for which a pass is left out. What it
                raises reaches the caller of the module.
            special_ids: ids of the special tokens, of which no rows are given.
        """
        self._module = module
        self._sites = tuple(sites)
        self._take = take
        self._leave_out = leave_out
        self._special = torch.tensor(sorted(set(special_ids)), dtype=torch.int64)
        self._capture = Capture(module, sites)
        self._handles: list[RemovableHandle] = []
        self._inputs: tuple[Tensor, Tensor | None] | None = None

    def __enter__(self) -> "PassReader":
        self._capture.__enter__()
        before = self._module.register_forward_pre_hook(self._before, with_kwargs=True)
        after = self._module.register_forward_hook(self._after)
        self._handles = [before, after]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._capture.__exit__(None, None, None)

    def _before(
        self, module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        found = kwargs.get("input_ids", args[0] if args else None)
        mask = kwargs.get("attention_mask")
        is_ids = isinstance(found, Tensor) and found.ndim == 2 and not found.is_floating_point()
        ids = found if isinstance(found, Tensor) and is_ids else None
        fits = isinstance(mask, Tensor) and ids is not None and mask.shape == ids.shape
        self._inputs = (
            None if ids is None else (ids, mask if isinstance(mask, Tensor) and fits else None)
        )

    def _after(self, module: nn.Module, args: tuple[object, ...], output: object) -> None:
        try:
            rows = self._rows()
        except Exception as error:  # whatever a site gives, the module's caller is not disturbed
            self._leave_out(error)
        else:
            self._take(rows)
        finally:
            self._inputs = None

    def _rows(self) -> PassRows:
        if self._inputs is None:
            raise ShapeError(
                "the forward pass took no input_ids [sequences, tokens]: a recorder needs them, by "
                "name or as the first argument"
            )
        ids = self._inputs[0].detach().cpu()
        mask = self._inputs[1]
        keep = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.cpu().bool()
        content = keep & ~torch.isin(ids, self._special.to(ids.dtype))
        where = content.nonzero()
        return PassRows(
            sites={name: self._site_rows(name, content) for name in self._sites},
            token_id=ids[content].numpy().astype(np.uint32),
            position=where[:, 1].numpy().astype(np.uint32),
            document_index=where[:, 0].numpy(),
            documents=tuple(
                row[kept].numpy().astype(np.int64) for row, kept in zip(ids, keep, strict=True)
            ),
        )

    def _site_rows(self, name: str, content: Tensor) -> Tensor:
        seen = self._capture[name]
        if seen.ndim < 3 or seen.shape[:2] != content.shape:
            raise ShapeError(
                f"site {name!r} gave {list(seen.shape)}, wanted [sequences, tokens, width] with "
                f"{list(content.shape)} sequences and tokens"
            )
        return seen.flatten(2)[content.to(seen.device)]
