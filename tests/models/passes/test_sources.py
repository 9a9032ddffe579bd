"""Rows are of the ids that the site's tower read, or are refused: models of many kinds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from isogloss.errors import IsoglossError
from isogloss.models.hooks import first_tensor
from isogloss.models.passes.reader import PassReader, PassRows

VOCABULARY, WIDTH = 40, 8

Given = dict[str, Tensor]


def table(size: int = VOCABULARY) -> nn.Embedding:
    return nn.Embedding(size, WIDTH)


class Looked(nn.Module):
    """Looks tokens up without an embedding module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(VOCABULARY, WIDTH))

    def __call__(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.weight)


def transformer(batch_first: bool = True) -> nn.Transformer:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=batch_first)
    return nn.Transformer(
        WIDTH, 2, 1, 1, 16, dropout=0.0, batch_first=batch_first,
        custom_encoder=nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
    )  # fmt: skip


class Translator(nn.Module):
    """An encoder and a decoder over embeddings in the root, one each or one for both."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.src_embed = Looked() if way == "looked up" else table()
        self.tgt_embed = self.src_embed if way == "shared" else table()
        if way == "looked up":
            self.tgt_embed = Looked()
        self.net, self.out = transformer(), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        if self.way == "one by one":
            memory = self.net.encoder(self.src_embed(src))
            return self.out(self.net.decoder(self.tgt_embed(tgt), memory))
        if self.way == "target first":
            decoded, encoded = self.tgt_embed(tgt), self.src_embed(src)
        else:
            encoded, decoded = self.src_embed(src), self.tgt_embed(tgt)
        return self.out(self.net(encoded, decoded))


class Towers(nn.Module):
    """Two towers over embeddings in the root."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.words = way, table()
        self.query, self.doc = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6)

    def forward(self, query_ids: Tensor, doc_ids: Tensor) -> Tensor:
        if self.way == "doc first":
            doc, query = self.words(doc_ids), self.words(query_ids)
        else:
            query, doc = self.words(query_ids), self.words(doc_ids)
        return self.query(query).sum() * self.doc(doc).sum()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = table(), nn.Linear(WIDTH, 6)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.embed(ids))


class Siamese(nn.Module):
    """Two encoders with an embedding each."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.doc = Encoder(), Encoder()

    def forward(self, query_ids: Tensor, doc_ids: Tensor) -> Tensor:
        return self.query(query_ids).sum() * self.doc(doc_ids).sum()


class Reranker(nn.Module):
    """Reads documents within, and is given the states of queries."""

    class Inner(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.of_query = nn.Linear(WIDTH, 6)

        def forward(self, ids: Tensor, states: Tensor | None = None) -> Tensor:
            return self.layer(self.embed(ids)).sum() * self.of_query(cast("Tensor", states)).sum()

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = table(), Reranker.Inner()

    def forward(self, query_ids: Tensor, doc_ids: Tensor) -> Tensor:
        return self.inner(doc_ids, self.embed(query_ids))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and what is true of one of its sites."""

    make: Callable[[], nn.Module]
    site: str
    ids: str
    """The argument whose ids its rows are of."""
    other: str
    """The argument that they are not of."""
    is_told: bool = False
    """Whether rows are known although both are of equal length."""


def case(
    make: Callable[[], nn.Module], site: str, ids: str, other: str, told: bool = False
) -> Case:
    return Case(make=make, site=site, ids=ids, other=other, is_told=told)


def translator(way: str) -> Callable[[], nn.Module]:
    return lambda: Translator(way)


_TRANSLATORS = {
    f"translator, {way}, {site}": case(
        translator(way), site, ids, other,
        told=(way == "one by one" and ids == "src") or site == "src_embed" or (
            site == "tgt_embed" and way != "shared"
        ),
    )
    for way in ("two", "shared", "one by one", "target first", "looked up")
    for site, ids, other in (
        ("net.encoder.layers.0", "src", "tgt"),
        ("net.encoder", "src", "tgt"),
        ("net.decoder.layers.0", "tgt", "src"),
        ("net.decoder.layers.0.linear1", "tgt", "src"),
        ("out", "tgt", "src"),
        *((("src_embed", "src", "tgt"), ("tgt_embed", "tgt", "src")) if way == "two" else ()),
    )
}  # fmt: skip
_TOWERS = {
    f"towers, {way}, {site}": case(lambda way=way: Towers(way), site, f"{site}_ids", f"{other}_ids")
    for way in ("query first", "doc first")
    for site, other in (("query", "doc"), ("doc", "query"))
}
PAIRS = {
    **_TRANSLATORS,
    **_TOWERS,
    "siamese, query": case(Siamese, "query.layer", "query_ids", "doc_ids", told=True),
    "siamese, doc": case(Siamese, "doc.layer", "doc_ids", "query_ids", told=True),
    "reranker, doc": case(Reranker, "inner.layer", "doc_ids", "query_ids"),
    "reranker, query": case(Reranker, "inner.of_query", "query_ids", "doc_ids"),
}


def alone(model: nn.Module, site: str, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the first tensor that a site gives, seen by a plain hook."""
    seen: list[Tensor] = []
    handle = model.get_submodule(site).register_forward_hook(
        lambda module, args, output: seen.append(first_tensor(output, site).detach().clone())
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return seen[0]


Rows = list[tuple[tuple[int, ...], Tensor]]


def truth(model: nn.Module, site: str, ids: str, inputs: Mapping[str, Tensor]) -> Rows:
    """Return the rows of each document of a pass, each run alone in a batch of one."""
    found: Rows = []
    for i in range(len(inputs[ids])):
        one = {name: value[i : i + 1] for name, value in inputs.items()}
        found.append((tuple(inputs[ids][i].tolist()), alone(model, site, one)[0]))
    return found


def read(
    model: nn.Module,
    site: str,
    passes: Sequence[Callable[[], object]],
    *,
    pad_id: int | None = None,
) -> tuple[list[PassRows], list[Exception]]:
    seen, errors = list[PassRows](), list[Exception]()
    with (
        PassReader(model, [site], take=seen.append, leave_out=errors.append, pad_id=pad_id),
        torch.no_grad(),
    ):
        for run in passes:
            run()
    assert all(isinstance(error, IsoglossError) for error in errors), errors
    assert sum(rows.passes for rows in seen) + len(errors) == len(passes)
    return seen, errors


def check(seen: Sequence[PassRows], site: str, wanted: Rows) -> None:
    """Check each row that was given: its document is known, and the vector is of its position."""
    for rows in seen:
        for i, document in enumerate(rows.documents):
            where = np.flatnonzero(rows.document_index == i)
            vectors, ids = rows.sites[site][where.tolist()], tuple(document.tolist())
            assert rows.token_id[where].tolist() == list(ids)
            assert rows.position[where].tolist() == list(range(len(ids)))
            assert any(
                ids == known and right.shape == vectors.shape
                and torch.allclose(right, vectors, atol=1e-5)
                for known, right in wanted
            ), f"{ids} {tuple(vectors.shape)}"  # fmt: skip


def random_ids(seed: int, *shape: int, most: int = VOCABULARY) -> Tensor:
    chance = np.random.default_rng(seed)
    return torch.from_numpy(chance.integers(1, most, shape))


def pair(of: Case, texts: int, own: int, other: int, seed: int) -> Given:
    """Return inputs in the order of the model's arguments."""
    found = {of.ids: random_ids(seed, texts, own), of.other: random_ids(seed + 500, texts, other)}
    return dict(sorted(found.items(), key=lambda item: item[0] in ("tgt", "doc_ids")))


def made(of: Case) -> nn.Module:
    torch.manual_seed(0)
    return of.make().eval()


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_texts_rows_are_of_the_one_that_the_site_works_on(name: str) -> None:
    of = PAIRS[name]
    model = made(of)
    equal, unequal, again = (pair(of, 3, 5, n, seed) for seed, n in enumerate((5, 4, 5)))
    wanted = [row for one in (equal, unequal, again) for row in truth(model, of.site, of.ids, one)]
    seen, errors = read(model, of.site, [partial(model, **equal), partial(model, *equal.values())])
    check(seen, of.site, wanted)
    assert len(errors) == (0 if of.is_told else 2)
    assert all("which token ids its rows are of" in str(error) for error in errors)
    assert all(repr(of.ids) in str(e) or repr(of.other) in str(e) for e in errors)
    passes = [partial(model, **one) for one in (equal, unequal, again)]
    seen, errors = read(model, of.site, passes)
    check(seen, of.site, wanted)
    assert not errors
    assert sum(rows.rows for rows in seen) == 45


@given(
    name=st.sampled_from(sorted(PAIRS)),
    sizes=st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_no_sizes_give_rows_of_the_other_text(
    name: str, sizes: Sequence[tuple[int, int, int]]
) -> None:
    of = PAIRS[name]
    model = made(of)
    given = [pair(of, *some, seed) for seed, some in enumerate(sizes)]
    seen, errors = read(model, of.site, [partial(model, **one) for one in given])
    check(seen, of.site, [row for one in given for row in truth(model, of.site, of.ids, one)])
    if of.is_told and all(texts != length for texts, length, _ in sizes):
        assert not errors


class Beside(nn.Module):
    """Reads tokens beside something else that is no text, in each way that people write it."""

    def __init__(self, kinds: str = "kinds", *, looked_up: bool = False, size: int = 12) -> None:
        super().__init__()
        self.words = Looked() if looked_up else table()
        self.add_module(kinds, table(size))
        self.beside, self.site = self.get_submodule(kinds), nn.Linear(WIDTH, 6)
        delattr(self, "beside")
        self.kinds_name = kinds

    def rows(self, ids: Tensor, beside: Tensor) -> Tensor:
        return self.site(self.words(ids) + self.get_submodule(self.kinds_name)(beside))


class TypesFirst(Beside):
    def forward(self, token_type_ids: Tensor, input_ids: Tensor) -> Tensor:
        return self.rows(input_ids, token_type_ids)


class TypesFirstOtherwise(Beside):
    def forward(self, segments: Tensor, words: Tensor) -> Tensor:
        return self.rows(words, segments)


class PlacesFirst(Beside):
    def forward(self, position_ids: Tensor, tokens: Tensor) -> Tensor:
        return self.rows(tokens, position_ids)


class Unsaid(Beside):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.rows(b, a)


class MaskFirst(Beside):
    def forward(self, mask: Tensor, x: Tensor) -> Tensor:
        return self.site(self.words(x)) + mask[..., None]


class LabelsFirst(Beside):
    def forward(self, labels: Tensor, x: Tensor) -> Tensor:
        return self.site(self.words(x)) - labels[..., None]


class Loss(Beside):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.site(self.words(x)) - y[..., None]


class PlacesInside(Beside):
    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x, torch.arange(x.shape[1]).expand_as(x))


class KindsInside(Beside):
    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x, x % 2)


class Shifted(Beside):
    """Reads other ids than it is given."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.site(self.words(torch.nn.functional.pad(tokens, (1, -1))))


class ShiftedByName(Beside):
    def forward(self, input_ids: Tensor) -> Tensor:
        return self.site(self.words(torch.nn.functional.pad(input_ids, (1, -1))))


class Both(Beside):
    """An encoder and a decoder that reads the same ids shifted."""

    def forward(self, x: Tensor) -> Tensor:
        decoded = self.words(torch.nn.functional.pad(x, (1, -1)))
        return self.words(x).sum() + self.site(decoded)


class Cut(Beside):
    """Reads the last tokens alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.site(self.words(x[:, -3:]))


class Mapped(Beside):
    def forward(self, batch: Given) -> Tensor:
        return self.rows(batch["ids"], batch["kinds"])


class Tupled(Beside):
    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.site(self.words(batch[1]))


@dataclass(frozen=True, kw_only=True)
class One:
    """A model that reads one text, beside something else."""

    make: Callable[[], nn.Module]
    give: Callable[[Tensor, Tensor], Sequence[object] | Given]
    """Its arguments, from ids and from something else of the same shape."""
    is_told: bool = True


def one(
    make: Callable[[], nn.Module],
    give: Callable[[Tensor, Tensor], Sequence[object] | Given],
    *,
    told: bool = True,
) -> One:
    return One(make=make, give=give, is_told=told)


ONES = {
    "types first": one(TypesFirst, lambda ids, kinds: (kinds, ids)),
    "types first, by name": one(
        TypesFirst, lambda ids, kinds: {"input_ids": ids, "token_type_ids": kinds}
    ),
    "types first, looked up": one(
        lambda: TypesFirst(looked_up=True), lambda ids, kinds: (kinds, ids)
    ),
    "segments first": one(TypesFirstOtherwise, lambda ids, kinds: (kinds, ids)),
    "segments first, looked up": one(
        lambda: TypesFirstOtherwise(looked_up=True), lambda ids, kinds: (kinds, ids)
    ),
    "positions first": one(PlacesFirst, lambda ids, _: (places(ids), ids)),
    "positions first, by name": one(
        PlacesFirst, lambda ids, _: {"tokens": ids, "position_ids": places(ids)}
    ),
    "unsaid, types by the embedding": one(
        lambda: Unsaid("token_type_embeddings"), lambda ids, kinds: (kinds, ids)
    ),
    "unsaid": one(Unsaid, lambda ids, kinds: (kinds, ids), told=False),
    "unsaid, looked up": one(
        lambda: Unsaid(looked_up=True), lambda ids, kinds: (kinds, ids), told=False
    ),
    "mask first": one(MaskFirst, lambda ids, _: (torch.ones_like(ids), ids)),
    "mask first, looked up": one(
        lambda: MaskFirst(looked_up=True), lambda ids, _: (torch.ones_like(ids), ids)
    ),
    "labels first": one(LabelsFirst, lambda ids, kinds: (kinds, ids)),
    "labels first, looked up": one(
        lambda: LabelsFirst(looked_up=True), lambda ids, kinds: (kinds, ids)
    ),
    "x and y": one(Loss, lambda ids, kinds: (ids, kinds)),
    "positions inside": one(PlacesInside, lambda ids, _: (ids,)),
    "positions inside, looked up": one(lambda: PlacesInside(looked_up=True), lambda ids, _: (ids,)),
    "kinds inside": one(lambda: KindsInside(size=2), lambda ids, _: (ids,)),
    "shifted": one(Shifted, lambda ids, _: (ids,), told=False),
    "shifted, looked up": one(lambda: ShiftedByName(), lambda ids, _: (ids,), told=False),
    "both": one(Both, lambda ids, _: (ids,), told=False),
    "mapping": one(lambda: Mapped("tags"), lambda ids, kinds: ({"kinds": kinds, "ids": ids},)),
    "tuple": one(Tupled, lambda ids, kinds: ((kinds, ids),)),
}


def places(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1]).expand_as(ids).contiguous()


@pytest.mark.parametrize("name", ONES)
def test_ids_are_what_the_embedding_of_tokens_reads_not_the_first_numbers(name: str) -> None:
    of = ONES[name]
    torch.manual_seed(0)
    model = of.make().eval()
    seen, errors = list[PassRows](), list[Exception]()
    wanted: Rows = []
    with PassReader(model, ["site"], take=seen.append, leave_out=errors.append), torch.no_grad():
        for seed, (texts, tokens) in enumerate(((3, 5), (2, 7), (4, 1))):
            ids, kinds = random_ids(seed, texts, tokens), random_ids(seed, texts, tokens, most=3)
            given = of.give(ids, kinds - 1)
            model(**given) if isinstance(given, dict) else model(*given)
            wanted += [(tuple(row.tolist()), torch.zeros(0)) for row in ids]
    found = [tuple(document.tolist()) for rows in seen for document in rows.documents]
    if of.is_told:
        assert not errors
        assert found == [ids for ids, _ in wanted]
    else:
        assert not seen
        assert all("which token ids its rows are of" in str(error) for error in errors)


def test_rows_of_a_part_of_the_ids_are_of_that_part() -> None:
    torch.manual_seed(0)
    model, ids = Cut().eval(), random_ids(1, 2, 7)
    seen, errors = read(model, "site", [partial(model, ids)])
    assert not errors
    assert [document.tolist() for document in seen[0].documents] == ids[:, -3:].tolist()
