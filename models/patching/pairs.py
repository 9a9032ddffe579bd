"""Clean and corrupt texts that differ in what the model should say next."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.attention.prompts import (
    Prompt,
    Text,
    check_ids,
    content_ids,
    read_prompt,
    start_ids,
)
from isogloss.models.wrappers import LoadedModel

_NAMES = (
    "Mary", "John", "Tom", "James", "Dan", "Anna", "Paul", "Mark", "Lisa", "Kate", "Jack", "Emma",
    "Sarah", "David", "Alice", "Peter",
)  # fmt: skip
_PLACES = ("store", "park", "school", "office", "station", "market")
_THINGS = ("drink", "book", "ring", "ball", "letter", "bag")
_NOUNS = ("war", "siege", "voyage", "trial", "strike", "festival")


@dataclass(frozen=True, kw_only=True, eq=False)
class TextPairs:
    """TextPairs of texts of one length, with the tokens that their next token is asked for."""

    clean: Tensor
    """Token ids of texts after which the right token follows, ``[pairs, tokens]``, int64."""
    corrupt: Tensor
    """Of texts after which it does not, ``[pairs, tokens]``, int64."""
    right: tuple[tuple[int, ...], ...]
    """For each pair the tokens that should follow on the clean text, one or several."""
    wrong: tuple[tuple[int, ...], ...]
    """For each pair the tokens that should not."""
    tokens: tuple[str, ...]
    """The first clean text's tokens, to label positions with."""

    def __post_init__(self) -> None:
        if self.clean.ndim != 2 or self.clean.shape != self.corrupt.shape:
            raise InvalidInput(
                f"clean texts {tuple(self.clean.shape)} and corrupt ones "
                f"{tuple(self.corrupt.shape)} differ in number or length; patching replaces "
                "activations position by position, so give texts of as many tokens"
            )
        counts = {len(self.clean), len(self.right), len(self.wrong)}
        if len(counts) != 1 or not len(self.clean):
            raise InvalidInput(f"{sorted(counts)} texts and answers; give one each, and one pair")
        if not all(map(len, itertools.chain(self.right, self.wrong))):
            raise InvalidInput("a pair has no right or no wrong token; give one at least of each")
        if bool((self.clean == self.corrupt).all(1).any()):
            raise InvalidInput("a clean text and its corrupt one are the same; change a token")

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def changed(self) -> tuple[int, ...]:
        """Positions at which any clean text differs from its corrupt one."""
        return tuple((self.clean != self.corrupt).any(0).nonzero().flatten().tolist())


def text_pairs(
    model: LoadedModel,
    clean: Sequence[Text],
    corrupt: Sequence[Text],
    right: Sequence[str | int],
    wrong: Sequence[str | int],
) -> TextPairs:
    """Make pairs of texts of your own.

    Args:
        model: module and tokenizer.
        clean: texts, or token ids.
        corrupt: as many, each of as many tokens as its clean text.
        right: what should follow on each clean text: a token as the text would go on
            (``" Mary"``), or its id.
        wrong: what should not.

    Raises:
        InvalidInput: texts differ in length, an answer is not one token, the model has no
            tokenizer, or a text is longer than its context.
    """
    for name, given in (("clean", clean), ("corrupt", corrupt), ("right", right), ("wrong", wrong)):
        if isinstance(given, str):
            raise InvalidInput(f"{name} is the string {given[:40]!r}; give a list: one for a pair")
    if not len(clean) == len(corrupt) == len(right) == len(wrong) or not clean:
        raise InvalidInput(
            f"{len(clean)} clean and {len(corrupt)} corrupt texts, {len(right)} right and "
            f"{len(wrong)} wrong tokens; give as many of each, one at least"
        )
    prompts = [read_prompt(model, text) for text in (*clean, *corrupt)]
    lengths = [len(prompt.ids) for prompt in prompts]
    if len(set(lengths)) > 1:
        odd = next(i for i, length in enumerate(lengths) if length != lengths[0])
        text = (*clean, *corrupt)[odd]
        raise InvalidInput(
            f"texts differ in length: {str(text)[:60]!r} has {lengths[odd]} tokens, the first "
            f"{lengths[0]}; patching replaces activations position by position"
        )
    return _pairs(
        prompts[: len(clean)],
        prompts[len(clean) :],
        [(answer_id(model, one),) for one in right],
        [(answer_id(model, one),) for one in wrong],
    )


def check_pairs(model: LoadedModel, pairs: TextPairs) -> None:
    """Refuse pairs that a model cannot read, before any pass.

    Args:
        model: module and tokenizer.
        pairs: clean and corrupt texts.

    Raises:
        InvalidInput: texts are longer than the model's context, or the model does not have one of
            their tokens or of those that they are asked for.
    """
    for ids in (pairs.clean, pairs.corrupt):
        check_ids(model, ids)
    answers = [*itertools.chain(*pairs.right, *pairs.wrong)]
    check_ids(model, torch.tensor(answers)[:, None])


def answer_id(model: LoadedModel, answer: str | int) -> int:
    """Return the id of an answer that is one token.

    Args:
        model: module and tokenizer.
        answer: as the text would go on, with its blank (``" Mary"``); or a token id.

    Raises:
        InvalidInput: it is no single token, or there is no tokenizer.
    """
    if isinstance(answer, int):
        return int(read_prompt(model, [answer]).ids[0])
    ids = _content(model, answer)
    if len(ids) != 1:
        raise InvalidInput(
            f"the answer {answer!r} is {len(ids)} tokens; give one that is a single token, such "
            "as a short frequent word with its blank in front"
        )
    return ids[0]


def indirect_object_pairs(model: LoadedModel, count: int = 16, *, seed: int = 0) -> TextPairs:
    """Make pairs of indirect object identification (Wang et al. 2022).

    ``When Mary and John went to the store, John gave a drink to`` goes on with ``Mary``. In the
    corrupt text the second ``John`` is ``Mary``, so that it goes on with ``John``.

    Args:
        model: with a tokenizer.
        count: how many pairs.
        seed: of names, places and things.

    Raises:
        InvalidInput: too few of the names, places and things are one token of this tokenizer.
    """
    names, places, things = (_single(model, some) for some in (_NAMES, _PLACES, _THINGS))
    if len(names) < 2 or not places or not things:
        raise InvalidInput(
            f"of the names {_NAMES} this tokenizer has {len(names)} as one token: make pairs by "
            "text_pairs"
        )

    def make(choose: Callable[[Sequence[str]], str]) -> _Made:
        a = choose(names)
        b = choose([name for name in names if name != a])
        where, what = choose(places), choose(things)
        text = f"When {a} and {b} went to the {where}, {{}} gave a {what} to"
        return text.format(b), text.format(a), [f" {a}"], [f" {b}"]

    return _made(model, make, count, seed)


def greater_than_pairs(model: LoadedModel, count: int = 16, *, seed: int = 0) -> TextPairs:
    """Make pairs of the greater-than task (Hanna et al. 2023).

    ``The war lasted from the year 1732 to the year 17`` goes on with something above 32. In the
    corrupt text the first year is 1701, which any number exceeds. Where the tokenizer has no tokens
    of two digits, the next digit is asked for.

    Args:
        model: with a tokenizer.
        count: how many pairs.
        seed: of nouns and years.

    Raises:
        InvalidInput: the tokenizer has digits neither one by one nor by two.
    """
    pairs_of_digits = all(len(_content(model, f"17{n}")) == 2 for n in ("32", "01", "95"))
    is_two = pairs_of_digits and len({_content(model, f"17{n}")[-1] for n in ("32", "33")}) == 2
    if not is_two and len(_content(model, "1732")) != 4:
        raise InvalidInput("this tokenizer has years neither digit by digit nor by two digits")

    def make(choose: Callable[[Sequence[str]], str]) -> _Made:
        century, noun = choose(["13", "14", "15", "16", "17"]), choose(_NOUNS)
        year = int(choose([str(n) for n in range(12, 89)]))
        text = f"The {noun} lasted from the year {century}{{}} to the year {century}"
        if is_two:
            above, below = range(year + 1, 99), range(2, year)
            right, wrong = [f"{n:02d}" for n in above], [f"{n:02d}" for n in below]
        else:
            right = [str(n) for n in range(year // 10 + 1, 10)]
            wrong = [str(n) for n in range(year // 10)]
        return text.format(f"{year:02d}"), text.format("01"), right, wrong

    return _made(model, make, count, seed, digits=True)


def induction_pairs(
    model: LoadedModel, count: int = 16, *, tokens: int = 24, seed: int = 0
) -> TextPairs:
    """Make pairs of random tokens, the last of which stood earlier: what followed there follows.

    In the corrupt text another token stands there, so that nothing tells what follows.

    Args:
        model: whose tokens; it needs no tokenizer.
        count: how many pairs.
        tokens: of each text, special ones among them.
        seed: of tokens and places.

    Raises:
        InvalidInput: there is no room for a repetition, or the model has too few tokens.
    """
    start, known = start_ids(model), content_ids(model)
    free = tokens - len(start)
    if free < 4 or len(known) < free + 2 or count < 1:
        raise InvalidInput(
            f"{count} texts of {tokens} tokens of {len(known)} that the model knows; wanted 1 of 4 "
            "at least, and more known tokens than a text has"
        )
    random = torch.Generator().manual_seed(seed)
    clean = torch.empty(count, tokens, dtype=torch.int64)
    corrupt, right, wrong = clean.clone(), [], []
    for i in range(count):
        chosen = known[torch.randperm(len(known), generator=random)[: free + 2]]
        place = int(torch.randint(0, free - 3, (), generator=random))
        row = chosen[:free].clone()
        row[-1] = row[place]
        clean[i] = torch.cat([torch.tensor(start, dtype=torch.int64), row])
        row[place] = chosen[free]
        corrupt[i] = torch.cat([torch.tensor(start, dtype=torch.int64), row])
        right.append((int(row[place + 1]),))
        wrong.append((int(chosen[free + 1]),))
    shown = read_prompt(model, clean[0].tolist())
    return TextPairs(
        clean=clean, corrupt=corrupt, right=tuple(right), wrong=tuple(wrong), tokens=shown.tokens
    )


_Made = tuple[str, str, Sequence[str], Sequence[str]]


def _made(
    model: LoadedModel,
    make: Callable[[Callable[[Sequence[str]], str]], _Made],
    count: int,
    seed: int,
    *,
    digits: bool = False,
) -> TextPairs:
    """Make pairs by a rule, of those that are all of one length."""
    if count < 1:
        raise InvalidInput(f"{count} pairs were asked for; wanted 1 at least")
    random = torch.Generator().manual_seed(seed)

    def choose(some: Sequence[str]) -> str:
        return some[int(torch.randint(len(some), (), generator=random))]

    found: list[tuple[Prompt, Prompt, tuple[int, ...], tuple[int, ...]]] = []
    for _ in range(50 * count):
        clean, corrupt, right, wrong = make(choose)
        one, other = read_prompt(model, clean), read_prompt(model, corrupt)
        wanted = len(found[0][0].ids) if found else len(one.ids)
        if len(one.ids) == len(other.ids) == wanted:
            ids = [tuple(_answers(model, some, digits=digits)) for some in (right, wrong)]
            found.append((one, other, ids[0], ids[1]))
        if len(found) == count:
            return _pairs(*map(list, zip(*found, strict=True)))
    raise InvalidInput(
        f"of {50 * count} texts {len(found)} are of one length with this tokenizer, wanted "
        f"{count}: make pairs by text_pairs"
    )


def _answers(model: LoadedModel, answers: Sequence[str], *, digits: bool) -> Iterator[int]:
    for one in answers:
        yield _content(model, f"17{one}")[-1] if digits else answer_id(model, one)


def _pairs(
    clean: Sequence[Prompt],
    corrupt: Sequence[Prompt],
    right: Sequence[tuple[int, ...]],
    wrong: Sequence[tuple[int, ...]],
) -> TextPairs:
    return TextPairs(
        clean=torch.stack([prompt.ids.cpu() for prompt in clean]),
        corrupt=torch.stack([prompt.ids.cpu() for prompt in corrupt]),
        right=tuple(right),
        wrong=tuple(wrong),
        tokens=clean[0].tokens,
    )


def _single(model: LoadedModel, words: Sequence[str]) -> list[str]:
    """Return the words that are one token each, and no two the same (that of unknown words)."""
    found = {word: _content(model, f" {word}") for word in words}
    ids = [tuple(some) for some in found.values()]
    return [word for word, some in found.items() if len(some) == 1 and ids.count(tuple(some)) == 1]


def _content(model: LoadedModel, text: str) -> list[int]:
    """Return the ids of a text without the special tokens around it."""
    ids, start = read_prompt(model, text).ids.tolist(), len(start_ids(model))
    around = len(read_prompt(model, f"{text}{text}").ids) - 2 * (len(ids) - start)
    return ids[start : len(ids) - max(0, around - start)]
