"""Open the recorder of ``client.record``: check its arguments, describe the recording."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor, distributed, nn
from torch.distributed import ProcessGroup

from isogloss.errors import InvalidInput
from isogloss.models import (
    Example,
    LoadedModel,
    padding_id,
    resolve_sites,
    special_ids,
    unwrapped,
)
from isogloss.service.recording.description import (
    HasVocabulary,
    Precision,
    check_place,
    check_recording,
    check_sites,
)
from isogloss.service.recording.live.recorder import LiveReading, Recorder, StepSource
from isogloss.service.recording.options import RecorderOptions
from isogloss.service.recording.route import Direct
from isogloss.service.recording.target import Target, TargetClient, describe_live
from isogloss.service.recording.texts import names_for
from isogloss.service.values.arguments import check_one_of, check_text, check_whole, found
from isogloss.store import check_step

_IN_PLACE = ("FSDP", "DDP", "Replicate", "Parametrized")
"""What torch puts before the name of a class when it changes a module in place."""

Ranks = Literal["all", "one"] | ProcessGroup
"""Which processes record: all, rank 0 of all, or the first rank of a group."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows go, and from which processes; arguments of ``client.record``."""

    recording: str
    producer: str | None
    direct: Direct
    root: Path | str | None
    ranks: Ranks


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What is recorded; arguments of ``client.record``."""

    sites: Sequence[str]
    name: str
    corpus: str
    dtype: Precision
    skip_first: int
    call: int | None
    layout: Literal["batch_first"] | None
    ids: str | None
    example: Example | None

    def provenance(self, options: RecorderOptions) -> dict[str, str]:
        """Return the settings on which rows depend, where they are not what they usually are."""
        settings = {
            "skip_first": str(self.skip_first) if self.skip_first else "",
            "call": "" if self.call is None else str(self.call),
            "layout": self.layout or "",
            "ids": self.ids or "",
            "sample": f"{options.sample!r}" if options.sample < 1 else "",
        }
        return {key: value for key, value in settings.items() if value}


def open_recorder(
    client: TargetClient,
    module: nn.Module | LoadedModel,
    tokenizer: HasVocabulary | None,
    place: Place,
    wanted: Wanted,
    step: StepSource | None,
    options: RecorderOptions | None,
) -> Recorder:
    """Make the recorder of ``client.record``, which describes the arguments.

    Raises:
        InvalidInput: an argument is of another type, or none of those that there are.
    """
    if isinstance(module, LoadedModel):  # what it says beside its module counts where not said here
        tokenizer = module.tokenizer if tokenizer is None else tokenizer
        wanted = replace(wanted, name=wanted.name or module.name)
    _check(tokenizer, place, wanted, step, options)
    options, names, inside = options or RecorderOptions(), names_for(tokenizer), unwrapped(module)
    description = describe_live(
        LoadedModel(module=inside, tokenizer=tokenizer, name=wanted.name or _class_name(inside)),
        wanted.sites,
        recording=place.recording,
        corpus=wanted.corpus,
        dtype=wanted.dtype,
        has_spans=names.has_spans,
        provenance=wanted.provenance(options),
        is_trained=step is not None,
    )
    target = Target(client, description, direct=place.direct, root=place.root)
    settings = LiveReading(
        special_ids=special_ids(tokenizer),
        pad_id=padding_id(tokenizer),
        call=wanted.call,
        layout=wanted.layout,
        ids=wanted.ids,
    )
    recorder = Recorder(
        inside,
        target,
        names,
        producer=f"rank-{_rank()}" if place.producer is None else place.producer,
        settings=settings,
        step=0 if step is None else step,
        skip_first=wanted.skip_first,
        options=options,
        writes=_writes(place.ranks),
    )
    if target.spec is not None:
        recorder.open({site.name: site.width for site in target.spec.sites})
    elif wanted.example is not None:
        found = resolve_sites(inside, description.sites, example=wanted.example)
        recorder.open({site.name: site.width for site in found})
    return recorder


def _check(tokenizer: object, place: Place, wanted: Wanted, step: object, options: object) -> None:
    """Refuse arguments that no pass could be recorded with, before there is one."""
    check_recording(place.recording)
    check_place(wanted.dtype, place.direct, place.root)
    check_sites(wanted.sites)
    if not (isinstance(place.ranks, ProcessGroup) or place.ranks in ("all", "one")):
        raise InvalidInput(f"ranks is {found(place.ranks)}, wanted 'all', 'one' or a process group")
    _check_example(wanted.example)
    if place.producer is not None:
        check_text("producer", place.producer, "rank-0")
    check_text("name", wanted.name, "my-model")
    check_text("corpus", wanted.corpus, "live")
    check_whole("skip_first", wanted.skip_first, 0)
    if wanted.call is not None:
        check_whole("call", wanted.call, None)
    check_one_of("layout", wanted.layout, ("batch_first", None))
    if wanted.ids is not None:
        check_text("ids", wanted.ids, "tgt")
    if step is not None and not callable(step):
        check_step(step)
    if not (options is None or isinstance(options, RecorderOptions)):
        raise InvalidInput(f"options is {found(options)}, wanted RecorderOptions(...) or None")
    if tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise InvalidInput(
            f"tokenizer is {found(tokenizer)}, wanted an object with get_vocab(), such as "
            "transformers.AutoTokenizer.from_pretrained(...) gives, or None"
        )


def _check_example(example: object) -> None:
    if not (example is None or isinstance(example, Tensor | tuple | Mapping)):
        raise InvalidInput(
            f"example is {found(example)}, wanted a tensor of token ids, or a tuple or a mapping "
            "of arguments of the forward pass"
        )


def _class_name(module: nn.Module) -> str:
    """Return the name of a module's class as it is before it is sharded in place."""
    kind = type(module)
    for base in kind.__bases__:
        if issubclass(base, nn.Module) and kind.__name__ in {p + base.__name__ for p in _IN_PLACE}:
            return base.__name__
    return kind.__name__


def _rank() -> int:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _writes(ranks: Ranks) -> bool:
    """Whether this process is one that records."""
    if isinstance(ranks, str):
        return ranks == "all" or _rank() == 0
    return distributed.get_rank(ranks) == 0


__all__ = ["Place", "Ranks", "Wanted", "open_recorder"]
