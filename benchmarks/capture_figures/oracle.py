"""Right rows of tiny models: one text, a batch of one, a plain hook. Does not import isogloss.

``python -m capture_figures.oracle FOLDER NAME...`` writes ``FOLDER/NAME.npz`` for each architecture
that can be built and run, and ``FOLDER/reasons.json`` for the others.
"""

import inspect
import json
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

LENGTHS = (9, 9, 4, 13, 7, 2, 16, 11)
BATCH = 4
LEAKY = ("convbert", "fnet", "nystromformer", "yoso")
"""Models that let padding into the rows of a text: a loop's rows are those of its padded pass."""
FIRST_ORDINARY_ID = 5  # those below are padding and other special tokens


def texts() -> list[list[int]]:
    """Return the texts, as token ids."""
    chance = np.random.default_rng(0)
    return [chance.integers(FIRST_ORDINARY_ID, VOCABULARY, n).tolist() for n in LENGTHS]


def decoder_ids(text: Sequence[int]) -> list[int]:
    """Return what the decoder of an encoder-decoder reads beside a text: other tokens, one more."""
    return [1, *reversed(text)]


def right_rows(model: TinyModel, text: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """Return the rows of a text at each site of the model, ``[tokens, width]``.

    Raises:
        NotBuilt: the model does not run on a text, or its site has no row for each token.
    """
    wanted = {model.site: len(text)}
    inputs = {"input_ids": torch.tensor([list(text)])}
    if model.decoder_site is not None:
        inputs["decoder_input_ids"] = torch.tensor([decoder_ids(text)])
        wanted[model.decoder_site] = len(text) + 1
    seen: dict[str, Tensor] = {}
    handles = [
        model.module.get_submodule(site).register_forward_hook(
            lambda _, args, output, site=site: seen.update({site: _first(output)})
        )
        for site in wanted
    ]
    try:
        with torch.no_grad():
            model.module(**inputs)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise NotBuilt(f"it does not run on a text: {type(error).__name__}: {line[:90]}") from error
    finally:
        for handle in handles:
            handle.remove()
    if missed := sorted(wanted.keys() - seen.keys()):
        raise NotBuilt(f"a pass does not reach its layer {missed[0]}")
    return {site: _of_tokens(seen[site], tokens) for site, tokens in wanted.items()}


def padded(some: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return texts padded behind, and the mask of their tokens, ``[texts, longest]``."""
    longest = max(map(len, some))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in some])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in some])
    return ids, mask


def rows_of_the_loop(model: TinyModel) -> list[NDArray[np.float32]]:
    """Return the rows of each text at the site in padded batches: those of a user's own loop.

    They differ from those of the text alone where the model lets padding into its rows: FNet mixes
    all positions, ConvBERT convolves over them, and YOSO's and Nystromformer's landmarks lie there.
    """
    seen: list[Tensor] = []
    takes_mask = "attention_mask" in inspect.signature(model.module.forward).parameters
    handle = model.module.get_submodule(model.site).register_forward_hook(
        lambda _, args, output: seen.append(_first(output))
    )
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(LENGTHS), BATCH):
        some = texts()[start : start + BATCH]
        ids, mask = padded(some)
        with torch.no_grad():
            model.module(input_ids=ids, **({"attention_mask": mask} if takes_mask else {}))
        rows += [seen[-1][i, : len(text)].float().numpy() for i, text in enumerate(some)]
    handle.remove()
    return rows


def _first(output: object) -> Tensor:
    found = output
    while not isinstance(found, Tensor):
        if isinstance(found, Mapping):
            found = next(iter(cast("Mapping[str, object]", found).values()))
        else:
            found = cast("Sequence[object]", found)[0]
    return found.clone()


def _of_tokens(rows: Tensor, tokens: int) -> NDArray[np.float32]:
    """Return ``[tokens, width]`` from a batch of one; time may be first, or padded behind."""
    shape = tuple(rows.shape)
    if len(shape) > 3 and shape[:2] == (1, tokens):  # all dimensions behind are the width
        return rows.reshape(tokens, -1).float().numpy()
    if len(shape) == 3 and 1 in shape[:2]:
        plain = rows.reshape(-1, shape[2])
        if tokens <= len(plain) and (len(plain) == tokens or len(plain) % 16 == 0):
            return plain[:tokens].float().numpy()
    raise NotBuilt(f"its layers give {shape} for {tokens} tokens: there is no row for each token")


def main(folder: Path, names: Sequence[str]) -> None:
    """Write the right rows of each architecture, or why there are none."""
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reasons: dict[str, str] = {}
    for name in names:
        try:
            model = tiny_model(name)
            rows = [right_rows(model, text) for text in texts()]
        except NotBuilt as error:
            reasons[name] = str(error)
            continue
        kinds = {"site": model.site, "decoder": model.decoder_site}
        arrays = {
            f"{kind} {i}": found[site]
            for i, found in enumerate(rows)
            for kind, site in kinds.items()
            if site is not None
        }
        if name in LEAKY:
            arrays |= {f"loop {i}": found for i, found in enumerate(rows_of_the_loop(model))}
        np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
    (folder / "reasons.json").write_text(json.dumps(reasons, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
