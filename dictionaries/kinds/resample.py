"""Resampling of dead features at rows that are badly reconstructed (Bricken et al. 2023)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.kernels import inside_columns

_ENCODER_SHARE = 0.2


def resample(
    tensors: Mapping[str, Tensor], batch: StepBatch, centred: Tensor, squared_errors: Tensor
) -> int:
    """Give dead features directions of rows of this batch, in place; returns how many.

    The procedure of "Towards Monosemanticity" (Bricken et al. 2023, appendix), on the rows of one
    batch: rows are drawn without repetition with a probability proportional to the square of their
    squared error; a feature's decoder row takes the direction of its row to reconstruct (less the
    decoder bias) and the mean norm of the live decoder rows; its encoder row takes the direction of
    its row read (the same, in an autoencoder) and 0.2 of the mean norm of the live encoder rows;
    features that have some columns only take the directions' part in them; what else the feature
    has, such as biases, becomes 0, and so do Adam's moments. The draw is a pure function of the
    step's number and the errors, so a resumed run draws the same. Features beyond the rows with an
    error stay dead.

    Args:
        tensors: ``weights.NAME``, ``first.NAME`` and ``second.NAME`` of each parameter; those that
            are not named ``decoder_bias`` have a row for each feature.
        batch: the batch of this step, with the dead features; none: nothing is done.
        centred: scaled rows read, less what is subtracted before encoding, ``[rows, width]``.
        squared_errors: of each row.
    """
    if batch.dead is None:
        return 0
    dead = batch.dead
    written = batch.target - tensors["weights.decoder_bias"]
    odds = squared_errors.double().square().cpu().numpy()
    usable = (odds > 0) & (centred.square().sum(1) > 0).cpu().numpy()
    usable &= (written.square().sum(1) > 0).cpu().numpy()
    features = dead.nonzero().squeeze(1)[: int(usable.sum())]
    live = ~dead
    if features.numel() == 0 or not bool(live.any()):
        return 0
    odds = np.where(usable, odds, 0.0)
    chosen = np.random.default_rng(batch.step).choice(
        len(odds), size=features.numel(), replace=False, p=odds / odds.sum()
    )
    places = torch.from_numpy(chosen).to(centred.device)
    columns = None if batch.columns is None else batch.columns[features]
    directions = {
        name: _directions(rows[places], columns)
        for name, rows in (("encoder", centred), ("decoder", written))
    }
    norms = {
        name: float(
            np.sqrt(tensors[f"weights.{name}"][live].double().square().sum(1).cpu().numpy()).mean()
        )
        for name in ("encoder", "decoder")
    }
    for name, tensor in tensors.items():
        group, _, parameter = name.partition(".")
        if parameter in ("", "decoder_bias"):  # of all features, or no parameter
            continue
        tensor[features] = 0.0
        if group == "weights" and parameter == "decoder":
            tensor[features] = directions["decoder"] * norms["decoder"]
        if group == "weights" and parameter == "encoder":
            tensor[features] = directions["encoder"] * (_ENCODER_SHARE * norms["encoder"])
    return features.numel()


def _directions(rows: Tensor, columns: Tensor | None) -> Tensor:
    """Return the rows, held to their feature's columns, divided by their norms."""
    if columns is not None:
        rows = torch.where(inside_columns(columns, rows.shape[1]), rows, 0.0)
    return rows / rows.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30)
