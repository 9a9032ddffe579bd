"""Which token ids the rows of a site may be of: those that embeddings read, or that were given.

A model may be given several tensors of whole numbers: texts for two towers, kinds and positions of
tokens, labels. Rows are of ids that a token embedding read before the site ran, in the innermost
call around the site that read any. Where several tensors remain, the sizes of the site's output
decide between them, in this pass or in others.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.passes.generation.caches import CacheState
from isogloss.models.passes.ids.stacks import Stack
from isogloss.models.passes.inputs import Arguments, same
from isogloss.models.passes.masks import has_mask, own_masks
from isogloss.models.passes.names import is_ids, is_mask, is_no_token, is_not_read, words


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """One call of an embedding of tokens."""

    path: str
    """Path of the embedding."""
    name: str
    """Path of the embedding, and which of its calls in the pass it is."""
    number: int
    """How many such calls were made in the pass before."""
    ids: Tensor
    """A copy of what it read."""
    size: int | None
    """How many ids the embedding knows; None: it does not tell."""
    is_of_tokens: bool
    """Whether it may be an embedding of tokens; others are of positions, types and the like."""


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """One call of a module that says which axis of its input is the batch (``batch_first``)."""

    name: str
    """Path of the module."""
    batch_first: bool
    """What it says."""
    sizes: tuple[int, int]
    """The first two sizes of its input."""
    axis: int | None = None
    """Which axis of the ids the first axis of its input is, where that is known."""


@dataclass(kw_only=True, eq=False)
class Reading:
    """One call of a module that reads token ids."""

    stack: Stack
    arguments: Arguments
    outer: "Reading | None"
    """The call around it that reads ids too."""
    given: CacheState | None = None
    """The cache that it was given, as it was before the call; None: it was given none."""
    returned: object = None
    """The cache that it gave back, once it has; None: it gave none."""
    decoder: "Reading | None" = None
    """Of a module with encoder and decoder: what its decoder read, once it has."""
    is_pair: bool = False
    """Whether it holds an encoder and a decoder, that read other ids than each other."""
    embedded: list[Embedded] = field(default_factory=list[Embedded])
    """The calls of embeddings within it."""

    def chain(self, ids: Tensor) -> "list[Reading]":
        """Return it, and the calls around it that were given the same ids."""
        found: list[Reading] = [self]
        while (outer := found[-1].outer) is not None and not found[-1].stack.is_decoder:
            if not any(same(given, ids) for given in outer.arguments.tables.values()):
                break
            found.append(outer)
        return found

    def masked(self, ids: Tensor) -> Arguments:
        """Return the arguments that tell what is padding: of the innermost call with a mask."""
        told = next((r.arguments for r in self.chain(ids) if has_mask(r.arguments)), None)
        if told is None and self.stack.is_decoder and self.outer is not None:
            mask = self.outer.arguments.named.get("decoder_attention_mask")
            told = replace(self.arguments, named={"attention_mask": mask})
        return told or self.arguments

    def cached(self, ids: Tensor) -> "Reading":
        """Return the innermost call that was given a cache; itself where none was."""
        return next((r for r in self.chain(ids) if r.arguments.cache is not None), self)

    def left(self, ids: Tensor) -> object:
        """Return the cache that the innermost call gave back, or else was given; None: no cache."""
        found = next((r.returned for r in self.chain(ids) if r.returned is not None), None)
        return self.cached(ids).arguments.cache if found is None else found


@dataclass(frozen=True, kw_only=True, eq=False)
class IdSource:
    """Token ids that the rows of a site may be of."""

    name: str
    """The argument that holds them, or the embedding that read them."""
    ids: Tensor
    """``[sequences, tokens]``; where turned, ``[tokens, sequences]``."""
    reading: Reading
    """The call in which they were read."""
    is_turned: bool = False
    """Whether they were given time first."""
    is_choice: bool = False
    """Whether there were others to be told from."""

    @property
    def sizes(self) -> tuple[int, int]:
        """How many sequences, and tokens in each."""
        first, second = self.ids.shape
        return (second, first) if self.is_turned else (first, second)

    @property
    def rows(self) -> Tensor:
        """Token ids, ``[sequences, tokens]``."""
        return self.ids.T if self.is_turned else self.ids

    @property
    def chain(self) -> list[Reading]:
        """The call, and those around it that were given the same ids."""
        return self.reading.chain(self.ids)

    def masked(self) -> Arguments:
        """Return the arguments that tell what is padding among these ids.

        Raises:
            InvalidInput: of which ids a mask is cannot be told.
        """
        found = self.reading.masked(self.ids)
        if self.reading.stack.is_known or self.reading.stack.is_decoder:
            return found
        told = (name for name, table in found.tables.items() if same(table, self.ids))
        found = own_masks(found, next(told, self.name.removeprefix(_PART)), self.sizes)
        if not self.is_turned:
            return found
        return replace(found, named={n: self._turned(n, m) for n, m in found.named.items()})

    def _turned(self, name: str, value: object) -> object:
        """Return a mask as ``[sequences, tokens]``, that was given time first as the ids were."""
        if not isinstance(value, Tensor) or value.ndim != 2 or "mask" not in words(name):
            return value
        if "key" in words(name):  # torch's own are never time first
            return value
        if self.sizes[0] != self.sizes[1] or bool(torch.equal(value, value.T)):
            return value.T if value.shape == self.ids.shape else value
        raise InvalidInput(
            f"whether {name} {list(value.shape)} is time first, as the token ids are, cannot be "
            "told of as many sequences as tokens; give batches of another size"
        )

    def equals(self, other: "IdSource") -> bool:
        """Return whether rows of one are rows of the other."""
        return (
            self.is_turned == other.is_turned
            and self.reading.stack.is_decoder == other.reading.stack.is_decoder
            and same(self.ids, other.ids)
        )


def sources(
    site: str,
    reading: Reading,
    before: int,
    ordered: Iterable[Ordered] = (),
    embedding: str | None = None,
) -> list[IdSource]:
    """Return the token ids that the rows of one call of a site may be of; empty: none are known.

    Args:
        site: its name.
        reading: the innermost call around it that reads ids.
        before: how many calls of embeddings the pass had made when the site ran.
        ordered: calls in the pass that tell axes apart.
        embedding: path of the site where it is an embedding of tokens itself.
    """
    found = _of_reading(site, reading, before)
    if embedding is not None:
        found = _read_itself(embedding, reading, before, found)
    turned: list[IdSource] = []
    votes = [*ordered]
    for source in found:
        is_told = source.reading.stack.is_known or source.reading.stack.is_decoder
        turns = [False] if is_told else _turns(source.ids.shape, votes)
        turned += [replace(source, is_turned=turn) for turn in turns]
    return turned


def _of_reading(site: str, reading: Reading, before: int) -> list[IdSource]:
    own, outer = _own(reading, before), reading.outer
    if not own:
        if outer is None or reading.stack.is_decoder:
            return []
        return _of_reading(site, outer, before)
    if outer is None or not _may_be_of_others(site, reading):
        return own
    others = [
        source
        for source in _of_reading(site, outer, before)
        if not any(same(source.ids, one.ids) for one in own)
    ]
    taken = {source.name for source in others}
    own = [_named_in(source, reading) if source.name in taken else source for source in own]
    return [replace(source, is_choice=bool(others)) for source in [*own, *others]]


def _named_in(source: IdSource, reading: Reading) -> IdSource:
    """Return ids with the path of the call before their name, where others have that name too."""
    return replace(source, name=f"{reading.stack.name}.{source.name}")


def _read_itself(
    path: str, reading: Reading, before: int, found: Sequence[IdSource]
) -> list[IdSource]:
    """Return which ids an embedding read itself, if they are among those that were found."""
    calls = [call for call in reading.embedded if call.path == path and call.number < before]
    own = [
        source
        for source in found
        if calls and same(source.ids, _told(calls[-1], source.reading.arguments.tables)[1])
    ]
    return [replace(source, is_choice=False) for source in own] or [*found]


def _may_be_of_others(site: str, reading: Reading) -> bool:
    """Return whether a site's rows may be of ids that were read around a call, not within it.

    So it is where the call was given states: those of another tower, as a decoder is given those of
    the encoder. In decoders of libraries only cross attention works on them.
    """
    if reading.stack.is_decoder or reading.stack.is_known:
        inside = site.removeprefix(reading.stack.name).lower()
        return reading.stack.is_decoder and bool(_CROSS.search(inside))
    return any(_holds_states(value) for value in reading.arguments.named.items())


_CROSS = re.compile(r"cross|enc(oder)?_?(dec(oder)?_?)?att|multihead_attn|src_att|memory")


def _holds_states(item: tuple[str, object]) -> bool:
    name, value = item
    if isinstance(value, Mapping):
        return any(_holds_states((str(key), one)) for key, one in value.items())
    if isinstance(value, tuple | list):
        return any(_holds_states((name, one)) for one in value)
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim > 2
        and not is_mask(name)
    )


def _own(reading: Reading, before: int) -> list[IdSource]:
    """Return what a call read before a site ran in it."""
    arguments, given = reading.arguments, reading.arguments.tables
    if reading.stack.is_known or reading.stack.is_decoder:  # the library says what rows are of
        ids = arguments.ids
        return [] if ids is None else [IdSource(name="input_ids", ids=ids, reading=reading)]
    told = [(entry, *_told(entry, given)) for entry in reading.embedded if entry.ids.ndim == 2]
    was_read = {name.removeprefix(_PART) for _, name, _ in told}
    whole = [entry.ids for entry, name, _ in told if name.removeprefix(_PART) not in given]
    was_read |= {name for name, ids in given.items() if any(_holds(one, ids) for one in whole)}
    now = [one for one in told if one[0].number < before and one[0].is_of_tokens]
    named = {name: ids for _, name, ids in now if not is_no_token(name)}
    dropped = len({name for _, name, _ in now}) > len(named)
    kept = _without_features(named, {name: entry for entry, name, _ in now}, given)
    left = {} if _is_settled(kept, given) else _not_read(arguments, was_read)
    found: dict[str, Tensor] = {}
    for name, ids in {**kept, **left}.items():
        if not any(same(ids, other) for other in found.values()):
            found[name] = ids
    is_choice = len(found) > 1 or dropped or len(kept) < len(named)
    return [
        IdSource(name=name, ids=ids, reading=reading, is_choice=is_choice)
        for name, ids in found.items()
    ]


def _is_settled(kept: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    """Return whether what an embedding read has the name of token ids."""
    names = {name.removeprefix(_PART) for name in kept} & set(given)
    return any(is_ids(name) for name in names)


def _not_read(arguments: Arguments, was_read: set[str]) -> dict[str, Tensor]:
    """Return the arguments that may hold token ids and that no embedding was seen to read."""
    found = {
        name: ids
        for name, ids in arguments.tables.items()
        if name not in was_read and not is_no_token(name) and not is_not_read(name)
    }
    if arguments.ids_by_name:  # what is called otherwise is no ids then
        found = {name: ids for name, ids in found.items() if is_ids(name)}
    return found


def _without_features(
    named: Mapping[str, Tensor], entries: Mapping[str, Embedded], given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Leave out what a model made inside to tell positions and kinds of tokens."""
    inside = {name for name in named if name.removeprefix(_PART) not in given}
    if not inside or len(named) + len(given) < 2:
        return dict(named)
    read = [ids for name, ids in named.items() if name not in inside and ids.numel()]
    most = max((int(ids.max()) for ids in read), default=-1)

    def is_feature(name: str) -> bool:
        size = entries[name].size
        return _are_places(named[name]) or (size is not None and size <= most)

    return {n: ids for n, ids in named.items() if n not in inside or not is_feature(n)}


def _are_places(ids: Tensor) -> bool:
    """Return whether each row counts on by one from the beginning, as positions do."""
    is_long = ids.shape[1] > _FEW
    return is_long and bool((ids.diff(dim=1) == 1).all()) and bool((ids[:, :1] <= _FEW).all())


_FEW = 2  # so many ids may count on by chance, and libraries begin to count at most here
_PART = "part of "


def _told(entry: Embedded, given: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """Return which argument an embedding read, and the ids; its own name if it is none of them."""
    ids = entry.ids
    for name, table in given.items():
        if same(table, ids):
            return name, table
    for name, table in given.items():
        if same(table.T, ids) or _begins(ids, table) or _begins(ids.T, table):
            return name, table  # time first, or padded by the model
    for name, table in given.items():
        if len(table) == len(ids) and ids.shape[1] < table.shape[1]:
            starts = range(table.shape[1] - ids.shape[1] + 1)
            if any(same(table[:, s : s + ids.shape[1]], ids) for s in {*starts[:2], starts[-1]}):
                return _PART + name, ids
    return entry.name, ids


def _begins(longer: Tensor, table: Tensor) -> bool:
    """Return whether ids are those of a table, with padding of one id behind."""
    tokens = table.shape[1]
    fits = len(longer) == len(table) and longer.shape[1] > tokens and len(longer) > 0
    if not fits or not same(longer[:, :tokens], table):
        return False
    return bool((longer[:, tokens:] == longer[0, -1]).all())


def _holds(ids: Tensor, table: Tensor) -> bool:
    """Return whether a table stands at the beginning or the end of longer ids, on either axis."""
    texts, tokens = table.shape
    if not (texts and tokens) or texts > ids.shape[0] or tokens > ids.shape[1]:
        return False
    parts = ids[:texts, :tokens], ids[-texts:, -tokens:]
    return table.shape != ids.shape and any(same(part, table) for part in parts)


def _turns(shape: torch.Size, ordered: Iterable[Ordered]) -> list[bool]:
    """Return whether ids are time first: what modules with ``batch_first`` tell of their input.

    Without any, ids are ``[sequences, tokens]``. Where both sizes are equal, either may be, but
    where the axes were followed to those modules.
    """
    first, second = shape
    votes = [vote for vote in ordered if vote.sizes in ((first, second), (second, first))]
    if votes and first == second > 1:
        told = {
            (vote.axis == 0) != vote.batch_first if vote.axis is not None else None
            for vote in votes
        }
        return [False] if False in told else [True] if told == {True} else [False, True]
    is_turned = [(vote.sizes == (first, second)) != vote.batch_first for vote in votes]
    return [bool(votes) and all(is_turned)]
