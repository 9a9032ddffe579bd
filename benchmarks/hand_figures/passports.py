"""[passport_refused] and [passport_passed]: 200 planted mismatches, and 200 uses that are right.

Each case has a model, layer and dictionary of its own. A case is used as users do: spliced into the
model for a pass, or compared with the weights at hand where a dictionary comes in from a file.
"""

import copy
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
import torch.distributed as dist
from house_figures.figure import Figure
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hand_figures.planted import K
from hand_figures.zoo import FAMILIES, TEXT, WIDTH, Case, case_of, folded, model_of
from isogloss.dictionaries import SparseDictionary, check_weights
from isogloss.errors import PassportRefused

Use = Callable[[int], None]
"""Uses the case of a number; raises PassportRefused where it is refused."""


def splice(case: Case, model: object, *, site: str | None = None, text: torch.Tensor = TEXT) -> str:
    """Splice the dictionary of a case into a model for one pass; return the answer."""
    with torch.no_grad(), case.module.spliced(model, site or case.site, ablate=[1]) as result:
        cast("Callable[[torch.Tensor], object]", model)(text)
    return result.answer


def _another_model(number: int) -> None:
    case = case_of(number)
    families = sorted(FAMILIES)
    if number % 2:
        splice(case, model_of(case.family, number + 10_000))
    else:  # of another architecture; its layer is named as there
        family = families[(families.index(case.family) + 1) % len(families)]
        splice(case, model_of(family, number), site=FAMILIES[family].layer.format(case.layer))


def _off_by_one(number: int) -> None:
    case = case_of(number)
    step = -1 if number % 2 and case.layer else 1
    splice(case, case.model, site=FAMILIES[case.family].layer.format(case.layer + step))


def _unfolded_norm(number: int) -> None:
    case = case_of(number)
    if number % 2:
        splice(case, folded(case.model))
        return
    norm = case.passport.norms[0] or 1.0
    # a dictionary of normalised rows: of norm sqrt(width), or 1 where the rows nearly have that
    scaled = WIDTH**0.5 if not 0.5 < norm / WIDTH**0.5 < 2 else 1.0
    splice(replace(case, passport=replace(case.passport, norms=(scaled,))), case.model)


def _missing_begin(number: int) -> None:
    case = case_of(number)
    splice(case, case.model, text=TEXT[:, 1:])


def _lost_activation(number: int) -> None:
    case = case_of(number, kind="jumprelu" if number % 2 else "batch_topk")
    made = case.dictionary
    rest = {name: tensor for name, tensor in made.tensors.items() if name != "threshold"}
    if number % 4 < 2:
        found = replace(made, tensors={**rest, "threshold": made.tensors["threshold"] * 0})
    else:
        settings = {"features": made.features}
        found = SparseDictionary.make("relu_l1", settings, rest, made.provenance)
    check_weights(case.passport, found).require()


def _wrong_k(number: int) -> None:
    case = case_of(number, kind="topk")
    k = [1, K - 1, K + 1, 2 * K, 4 * K][number % 5]
    settings = {"features": case.dictionary.features, "k": k}
    made = case.dictionary
    found = SparseDictionary.make("topk", settings, made.tensors, made.provenance)
    check_weights(case.passport, found).require()


def _transposed(number: int) -> None:
    features = WIDTH if number % 2 else 2 * WIDTH  # a square one shows it by no shape
    case = case_of(number, features=features)
    decoder = case.dictionary.decoder
    turned = decoder.T.contiguous().reshape(decoder.shape)
    found = replace(case.dictionary, tensors={**case.dictionary.tensors, "decoder": turned})
    check_weights(case.passport, found).require()


REFUSED: Mapping[str, tuple[int, Use]] = {
    "another model": (40, _another_model),
    "layer off by one": (30, _off_by_one),
    "unfolded norm": (30, _unfolded_norm),
    "missing BOS": (25, _missing_begin),
    "lost threshold or activation": (30, _lost_activation),
    "wrong k": (20, _wrong_k),
    "transposed decoder": (25, _transposed),
}


def _as_it_is(number: int) -> object:
    case = case_of(number)
    check_weights(case.passport, case.dictionary).require()
    return splice(case, case.model)


def _cast(number: int) -> object:
    case = case_of(number)
    dtype = torch.bfloat16 if number % 2 else torch.float16
    return splice(case, case.model.to(dtype))


def _compiled(number: int) -> object:
    case = case_of(number)
    return splice(case, torch.compile(case.model, backend="eager"))


def _distributed(number: int) -> object:
    case = case_of(number)
    return splice(case, DistributedDataParallel(case.model))


def _device_map(number: int) -> object:
    from accelerate import cpu_offload, dispatch_model

    case = case_of(number)
    if number % 2:
        return splice(case, cpu_offload(case.model, execution_device=torch.device("cpu")))
    return splice(case, dispatch_model(case.model, {"": "cpu"}, force_hooks=True))


def _renamed(number: int) -> object:
    case = case_of(number)

    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language_model = case.model

        def forward(self, ids: torch.Tensor) -> object:
            return self.language_model(ids)

    mine = Mine()
    own = replace(case.passport, sites=(f"language_model.{case.site}",), model="")
    return splice(replace(case, passport=own), mine, site=own.sites[0])


def _attention(number: int) -> object:
    case = case_of(number)
    other = model_of(case.family, 0, attention="sdpa")
    other.load_state_dict(case.model.state_dict())
    return splice(case, other)


def _base(number: int) -> object:
    case = case_of(number)
    prefix = str(case.model.base_model_prefix)
    own = replace(case.passport, sites=(case.site.removeprefix(f"{prefix}."),))
    base = copy.deepcopy(case.model.get_submodule(prefix))
    return splice(replace(case, passport=own), base, site=own.sites[0])


PASSED: Mapping[str, tuple[int, Callable[[int], object]]] = {
    "as it is": (50, _as_it_is),
    "without its head": (30, _base),
    "cast": (20, _cast),
    "compiled": (20, _compiled),
    "DDP": (20, _distributed),
    "device_map": (20, _device_map),
    "renamed": (20, _renamed),
    "another attention implementation": (20, _attention),
}


def passport_refused(share: float = 1.0) -> Figure:
    """Count the planted mismatches that are refused, each by name."""
    refused, missed, planted = 0, Counter[str](), 0
    for what, (count, use) in REFUSED.items():
        for number in range(max(2, round(count * share))):
            planted += 1
            try:
                use(number)
            except PassportRefused as error:
                refused += "allow=" in str(error)
            else:
                missed[f"{what} {number}"] += 1
    peers: dict[str, object] = {
        "missed": dict(missed),
        "planted": {what: count for what, (count, _) in REFUSED.items()},
    }
    return Figure(
        figure="passport_refused",
        value=refused,
        bar=planted,
        unit=f"of {planted} mismatches",
        at_most=False,
        peers=peers,
    )


def passport_passed(share: float = 1.0) -> Figure:
    """Count the right uses that pass; those of 120 wrapped or cast models must be *same*."""
    passed, refused, tried = 0, Counter[str](), 0
    with _process_group():
        for what, (count, use) in PASSED.items():
            for number in range(max(2, round(count * share))):
                tried += 1
                try:
                    answer = use(number)
                except PassportRefused as error:
                    refused[f"{what} {number}: {error}"[:200]] += 1
                else:
                    passed += answer == "same"
                    if answer != "same":
                        refused[f"{what} {number}: {answer}"] += 1
    peers: dict[str, object] = {
        "not same": dict(refused),
        "tried": {what: count for what, (count, _) in PASSED.items()},
    }
    return Figure(
        figure="passport_passed",
        value=passed,
        bar=tried,
        unit=f"of {tried} right uses",
        at_most=False,
        peers=peers,
    )


@contextmanager
def _process_group() -> Generator[None]:
    alone = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage] (it is public by its docs)
    dist.init_process_group("gloo", rank=0, world_size=1, store=alone)
    try:
        yield
    finally:
        dist.destroy_process_group()
