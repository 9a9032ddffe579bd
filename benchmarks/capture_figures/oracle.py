"""Right rows of tiny models: one text, a batch of one, a plain hook. Does not import isogloss.

``python -m capture_figures.oracle FOLDER NAME...`` writes ``FOLDER/NAME.npz`` for each architecture
that can be built and run, and says why of the others.
"""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import logging

from capture_figures.architectures import VOCABULARY, NotBuilt, TinyModel, tiny_model
from capture_figures.each import tell

LENGTHS = (9, 9, 4, 13, 7, 2, 16, 11)
BATCH = 4
FIRST_ORDINARY_ID = 5  # those below are padding and other special tokens


def texts() -> list[list[int]]:
    """Return the texts, as token ids."""
    chance = np.random.default_rng(0)
    return [chance.integers(FIRST_ORDINARY_ID, VOCABULARY, n).tolist() for n in LENGTHS]


def decoder_ids(text: Sequence[int]) -> list[int]:
    """Return what the decoder of an encoder-decoder reads beside a text: other tokens, one more."""
    return [1, *reversed(text)]


def loop_inputs(model: TinyModel, some: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return what a user's loop gives the model for some texts; a mask if there are several."""
    ids, mask = padded(some)
    inputs = {"input_ids": ids} | ({"attention_mask": mask} if len(some) > 1 else {})
    if model.decoder_site is not None:
        inputs["decoder_input_ids"], mask = padded([decoder_ids(text) for text in some])
        inputs |= {"decoder_attention_mask": mask} if len(some) > 1 else {}
    return inputs


def padded(some: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return texts padded behind, and the mask of their tokens, ``[texts, longest]``."""
    longest = max(map(len, some))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in some])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in some])
    return ids, mask


def right_rows(
    model: TinyModel, some: Sequence[Sequence[int]]
) -> dict[str, list[NDArray[np.float32]]]:
    """Return the rows of each text of one pass, ``[tokens, width]``, by site.

    Raises:
        NotBuilt: the model does not run on the texts, or its site has no row for each token.
    """
    lengths = {model.site: [len(text) for text in some]}
    if model.decoder_site is not None:
        lengths[model.decoder_site] = [len(text) + 1 for text in some]
    seen: dict[str, Tensor] = {}
    handles = [
        model.module.get_submodule(site).register_forward_hook(
            lambda _, args, output, site=site: seen.update({site: _first(output)})
        )
        for site in lengths
    ]
    try:
        with torch.no_grad():
            model.module(**loop_inputs(model, some))
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise NotBuilt(f"it does not run on a text: {type(error).__name__}: {line[:90]}") from error
    finally:
        for handle in handles:
            handle.remove()
    if missed := sorted(lengths.keys() - seen.keys()):
        raise NotBuilt(f"a pass does not reach its layer {missed[0]}")
    return {site: _of_tokens(seen[site], wanted) for site, wanted in lengths.items()}


def all_rows(model: TinyModel) -> dict[str, NDArray[np.float32]]:
    """Return the rows of each text alone and in the padded batches of a user's loop, by name.

    The two differ where the model lets padding into its rows in spite of the mask, such as by
    mixing, convolving or summing up over tokens. ``site 3`` are the rows of text 3 alone, ``padded
    site 3`` those of the batch; likewise ``decoder 3``.
    """
    kinds = {model.site: "site"}
    kinds |= {} if model.decoder_site is None else {model.decoder_site: "decoder"}
    found: dict[str, NDArray[np.float32]] = {}
    for prefix, size in (("", 1), ("padded ", BATCH)):
        for start in range(0, len(LENGTHS), size):
            for site, rows in right_rows(model, texts()[start : start + size]).items():
                found |= {f"{prefix}{kinds[site]} {start + i}": one for i, one in enumerate(rows)}
    return found


def _first(output: object) -> Tensor:
    found = output
    while not isinstance(found, Tensor):
        if isinstance(found, Mapping):
            found = next(iter(cast("Mapping[str, object]", found).values()))
        else:
            found = cast("Sequence[object]", found)[0]
    return found.clone()


def _of_tokens(rows: Tensor, lengths: Sequence[int]) -> list[NDArray[np.float32]]:
    """Return ``[tokens, width]`` of each text; time may be first, or padded behind by the model."""
    texts, longest = len(lengths), max(lengths)
    shape = tuple(rows.shape)
    for found in (rows, rows.transpose(0, 1)) if rows.ndim > 2 else ():
        count, tokens = found.shape[:2]
        if count == texts and (tokens == longest or (tokens > longest and tokens % 16 == 0)):
            flat = found.flatten(2).float().numpy()
            return [flat[i, :length] for i, length in enumerate(lengths)]
    raise NotBuilt(f"its layers give {shape} for {longest} tokens: there is no row for each token")


def main(folder: Path, names: Sequence[str]) -> None:
    """Write the right rows of each architecture, or say why there are none."""
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in names:
        try:
            np.savez(folder / f"{name}.npz", allow_pickle=False, **all_rows(tiny_model(name)))
            tell(name, {})
        except NotBuilt as error:
            tell(name, {"reason": str(error)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
