"""Dictionaries of every kind with random weights, and what they compute, dense and in float64."""

from collections.abc import Mapping

import torch
from torch import Tensor

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary

WIDTH, FEATURES = 12, 40
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "topk": {"features": FEATURES, "k": 5},
    "batch_topk": {"features": FEATURES, "k": 5},
    "matryoshka_batch_topk": {"features": FEATURES, "k": 5},
    "jumprelu": {"features": FEATURES, "target_l0": 5.0},
    "relu_l1": {"features": FEATURES},
    "gated": {"features": FEATURES},
}
KINDS = sorted(SETTINGS)


def random_dictionary(
    kind: str = "topk", *, transcodes: bool = False, seed: int = 0, width: int = WIDTH
) -> SparseDictionary:
    """A dictionary of random weights; a transcoder with a linear map by wish."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int, by: float = 1.0) -> Tensor:
        return by * torch.randn(*shape, generator=generator)

    target = 7 if transcodes else width
    tensors = {
        "encoder": numbers(FEATURES, width, by=width**-0.5),
        "encoder_bias": numbers(FEATURES, by=0.1),
        "decoder": numbers(FEATURES, target, by=target**-0.5),
        "decoder_bias": numbers(target, by=0.3),
    }
    if kind in ("batch_topk", "matryoshka_batch_topk"):
        tensors["threshold"] = torch.tensor(0.7)
    if kind == "jumprelu":
        tensors["threshold"] = numbers(FEATURES).abs() + 0.2
    if kind == "gated":
        tensors |= {"log_gain": numbers(FEATURES, by=0.2), "magnitude_bias": numbers(FEATURES)}
    if transcodes:
        tensors |= {"input_bias": numbers(width), "skip": numbers(target, width)}
        tensors |= {"skip_bias": numbers(width)}
    wiring = "transcoder" if transcodes else "sae"
    return SparseDictionary.make(
        kind, SETTINGS[kind], tensors, DictionaryProvenance(), wiring=wiring
    )


def dense_codes(kind: str, given: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """What every feature is on each row, by the kind's equation."""
    centred = rows - given.get("input_bias", given["decoder_bias"])
    shared = centred @ given["encoder"].T
    pre = shared + given["encoder_bias"]
    if kind == "topk":
        kept = torch.zeros_like(pre).scatter(-1, pre.topk(5).indices, 1.0)
        return pre.relu() * kept
    if kind == "relu_l1":
        return pre.relu()
    if kind == "gated":
        return (pre > 0) * (given["log_gain"].exp() * shared + given["magnitude_bias"]).relu()
    return pre * (pre > given["threshold"])


def dense_reconstruction(kind: str, given: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """What a dictionary makes of rows."""
    found = dense_codes(kind, given, rows) @ given["decoder"] + given["decoder_bias"]
    if "skip" in given:
        found = found + (rows - given["skip_bias"]) @ given["skip"].T
    return found
