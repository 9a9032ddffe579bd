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
from tests.models.passes.test_reader import believed
from torch import Tensor, nn

from isogloss.errors import InvalidInput, IsoglossError
from isogloss.models import LoadedModel, record
from isogloss.models.elements.containers import first_tensor
from isogloss.models.passes import order_watch
from isogloss.models.passes.reader import PassReader, PassRows

VOCABULARY, WIDTH = 40, 8

Given = dict[str, Tensor]


def table(size: int = VOCABULARY) -> nn.Embedding:
    return nn.Embedding(size, WIDTH)


def hidden(x: Tensor) -> Tensor:
    """Return the same numbers; no axes are followed through it."""
    return torch.from_numpy(x.detach().numpy().copy())


def as_it_is(x: Tensor) -> Tensor:
    return x


class Hiding(nn.Module):
    """A module behind an operation through which no axes are followed."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Tensor) -> Tensor:
        return hidden(self.module(*args))


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

    def __init__(self, way: str, *, hides: bool = False) -> None:
        super().__init__()
        self.way, self.hide = way, hidden if hides else as_it_is
        self.src_embed = Looked() if way == "looked up" else table()
        self.tgt_embed = self.src_embed if way == "shared" else table()
        if way == "looked up":
            self.tgt_embed = Looked()
        self.net, self.out = transformer(), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        if self.way == "one by one":
            memory = self.net.encoder(self.hide(self.src_embed(src)))
            return self.out(self.net.decoder(self.hide(self.tgt_embed(tgt)), memory))
        if self.way == "target first":
            decoded, encoded = self.tgt_embed(tgt), self.src_embed(src)
        else:
            encoded, decoded = self.src_embed(src), self.tgt_embed(tgt)
        return self.out(self.net(self.hide(encoded), self.hide(decoded)))


class Towers(nn.Module):
    """Two towers over embeddings in the root."""

    def __init__(self, way: str, *, hides: bool = False) -> None:
        super().__init__()
        self.way, self.words = way, Hiding(table()) if hides else table()
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
            self.embed: nn.Module = table()
            self.of_query = nn.Linear(WIDTH, 6)

        def forward(self, ids: Tensor, states: Tensor | None = None) -> Tensor:
            return self.layer(self.embed(ids)).sum() * self.of_query(cast("Tensor", states)).sum()

    def __init__(self, *, hides: bool = False) -> None:
        super().__init__()
        self.embed, self.inner = table(), Reranker.Inner()
        if hides:
            self.embed, self.inner.embed = Hiding(table()), Hiding(table())

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


_FOLLOWED = {False: "", True: ", not followed"}
_TRANSLATORS = {
    f"translator, {way}, {site}{_FOLLOWED[hides]}": case(
        partial(Translator, way, hides=hides), site, ids, other,
        told=not hides or (way == "one by one" and ids == "src") or site == "src_embed" or (
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
    for hides in ((False, True) if way in ("two", "one by one") else (site == "net.encoder",))
}  # fmt: skip
_TOWERS = {
    f"towers, {way}, {site}{_FOLLOWED[hides]}": case(
        partial(Towers, way, hides=hides), site, f"{site}_ids", f"{other}_ids", told=not hides
    )
    for way in ("query first", "doc first")
    for site, other in (("query", "doc"), ("doc", "query"))
    for hides in (False, True)
}
_RERANKERS = {
    f"reranker, {site}{_FOLLOWED[hides]}": case(
        partial(Reranker, hides=hides), path, f"{site}_ids", f"{other}_ids", told=not hides
    )
    for site, other, path in (
        ("doc", "query", "inner.layer"), ("query", "doc", "inner.of_query")
    )
    for hides in (False, True)
}  # fmt: skip
PAIRS = {
    **_TRANSLATORS,
    **_TOWERS,
    **_RERANKERS,
    "siamese, query": case(Siamese, "query.layer", "query_ids", "doc_ids", told=True),
    "siamese, doc": case(Siamese, "doc.layer", "doc_ids", "query_ids", told=True),
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
    is_believed: bool = False,
) -> tuple[list[PassRows], list[Exception]]:
    """Return the rows of some passes, and the errors for those left out.

    Args:
        is_believed: whether the order of rows is believed where it cannot be followed, as of
            models of transformers.
    """
    seen, errors = list[PassRows](), list[Exception]()
    with pytest.MonkeyPatch.context() as patch:
        if is_believed:
            patch.setattr(order_watch, "is_of_library", believed)
        reader = PassReader(model, [site], take=seen.append, leave_out=errors.append, pad_id=pad_id)
    with reader, torch.no_grad():
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
    both = [partial(model, **equal), partial(model, *equal.values())]
    seen, errors = read(model, of.site, both, is_believed=True)
    check(seen, of.site, wanted)
    assert len(errors) == (0 if of.is_told else 2)
    assert all("which token ids its rows are of" in str(error) for error in errors)
    assert all(repr(of.ids) in str(e) or repr(of.other) in str(e) for e in errors)
    passes = [partial(model, **one) for one in (equal, unequal, again)]
    seen, errors = read(model, of.site, passes, is_believed=True)
    check(seen, of.site, wanted)
    assert not errors
    assert sum(rows.rows for rows in seen) == 45


@given(
    name=st.sampled_from(sorted(PAIRS)),
    sizes=st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_no_sizes_give_rows_of_the_other_text(
    name: str, sizes: Sequence[tuple[int, int, int]]
) -> None:
    of = PAIRS[name]
    model = made(of)
    given = [pair(of, *some, seed) for seed, some in enumerate(sizes)]
    passes = [partial(model, **one) for one in given]
    seen, errors = read(model, of.site, passes, is_believed=True)
    check(seen, of.site, [row for one in given for row in truth(model, of.site, of.ids, one)])
    if of.is_told and (
        "not followed" not in name or all(texts != length for texts, length, _ in sizes)
    ):
        assert not errors


class Beside(nn.Module):
    """Reads tokens beside something else that is no text, in each way that people write it."""

    def __init__(
        self, kinds: str = "kinds", *, looked_up: bool = False, size: int = 12, hides: bool = False
    ) -> None:
        super().__init__()
        words = Looked() if looked_up else table()
        self.words = Hiding(words) if hides else words
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
    is_shifted: bool = False
    """Whether it reads a 0 and then all ids but the last."""


def one(
    make: Callable[[], nn.Module],
    give: Callable[[Tensor, Tensor], Sequence[object] | Given],
    *,
    told: bool = True,
    shifted: bool = False,
) -> One:
    return One(make=make, give=give, is_told=told, is_shifted=shifted)


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
    "labels first": one(LabelsFirst, lambda ids, kinds: (kinds, ids)),
    "x and y": one(Loss, lambda ids, kinds: (ids, kinds)),
    "positions inside": one(PlacesInside, lambda ids, _: (ids,)),
    "positions inside, looked up": one(lambda: PlacesInside(looked_up=True), lambda ids, _: (ids,)),
    "kinds inside": one(lambda: KindsInside(size=2), lambda ids, _: (ids,)),
    "shifted": one(Shifted, lambda ids, _: (ids,), shifted=True),
    "shifted, by name": one(ShiftedByName, lambda ids, _: (ids,), shifted=True),
    "shifted, not followed": one(lambda: Shifted(hides=True), lambda ids, _: (ids,), told=False),
    "both": one(Both, lambda ids, _: (ids,), shifted=True),
    "both, not followed": one(lambda: Both(hides=True), lambda ids, _: (ids,), told=False),
    "mapping": one(lambda: Mapped("tags"), lambda ids, kinds: ({"kinds": kinds, "ids": ids},)),
    "tuple": one(Tupled, lambda ids, kinds: ((kinds, ids),)),
}


def places(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1]).expand_as(ids).contiguous()


@pytest.mark.parametrize("name", ONES)
def test_ids_are_what_the_embedding_of_tokens_reads_not_the_first_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = ONES[name]
    torch.manual_seed(0)
    model = of.make().eval()
    seen, errors = list[PassRows](), list[Exception]()
    wanted: Rows = []
    monkeypatch.setattr(order_watch, "is_of_library", believed)  # some hide what they do
    with PassReader(model, ["site"], take=seen.append, leave_out=errors.append), torch.no_grad():
        for seed, (texts, tokens) in enumerate(((3, 5), (2, 7), (4, 1))):
            ids, kinds = random_ids(seed, texts, tokens), random_ids(seed, texts, tokens, most=3)
            given = of.give(ids, kinds - 1)
            model(**given) if isinstance(given, dict) else model(*given)
            read = torch.nn.functional.pad(ids, (1, -1)) if of.is_shifted else ids
            wanted += [(tuple(row.tolist()), torch.zeros(0)) for row in read]
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


class TimeFirst(nn.Module):
    """Works on ``[tokens, texts, width]``; is given ids so, or turns them itself."""

    def __init__(self, way: str, kind: str, *, hides: bool = False) -> None:
        super().__init__()
        self.way, self.kind, self.words = way, kind, Hiding(table()) if hides else table()
        if kind == "lstm":
            self.site: nn.Module = nn.LSTM(WIDTH, WIDTH)
        elif kind == "encoder":
            layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0)
            self.site = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        else:
            self.mix = nn.MultiheadAttention(WIDTH, 2, batch_first=kind == "batch first")
            self.site = nn.Linear(WIDTH, WIDTH)

    def forward(self, src: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        x = self.words(src.T if self.way == "ids turned inside" else src)
        x = x.transpose(0, 1) if self.way == "states turned inside" else x
        if self.kind == "encoder":
            return self.site(x, src_key_padding_mask=src_key_padding_mask)
        if self.kind == "lstm":
            return self.site(x)[0]
        mixed, _ = self.mix(x, x, x, key_padding_mask=src_key_padding_mask)
        return self.site(mixed)


WAYS = ("ids", "ids turned inside", "states turned inside")
KINDS = ("lstm", "encoder", "attention")


def of_time_first(model: TimeFirst, texts: Tensor) -> tuple[Tensor, Rows]:
    """Return ids as the model takes them, and the rows of each text alone."""
    is_turned = model.way == "ids" and model.kind != "batch first"
    wanted: Rows = []
    for text in texts:
        output = alone(model, "site", {"src": text[:, None] if is_turned else text[None]})
        wanted.append((tuple(text.tolist()), output.reshape(len(text), WIDTH)))
    return (texts.T if is_turned else texts), wanted


@pytest.mark.parametrize(("kind", "hides"), [*((kind, False) for kind in KINDS), ("lstm", True)])
@pytest.mark.parametrize("way", WAYS)
def test_time_first_ids_and_states_are_turned(way: str, kind: str, hides: bool) -> None:
    torch.manual_seed(0)
    model = TimeFirst(way, kind, hides=hides).eval()
    passes, wanted = list[Callable[[], object]](), Rows()
    for seed, (texts, tokens) in enumerate(((3, 3), (2, 4), (WIDTH, 4), (3, WIDTH), (3, 3))):
        ids, right = of_time_first(model, random_ids(seed, texts, tokens))
        wanted += right
        passes.append(partial(model, ids))
    seen, errors = read(model, "site", passes, is_believed=hides)
    assert not errors
    check(seen, "site", wanted)
    assert sum(rows.rows for rows in seen) == sum(len(ids) for ids, _ in wanted)
    seen, errors = read(model, "site", [passes[0], passes[4]], is_believed=hides)
    check(seen, "site", wanted)
    assert len(errors) == (2 if hides else 0)  # squares
    assert all("run batches of another size" in str(error) for error in errors)


@given(
    way=st.sampled_from(WAYS),
    kind=st.sampled_from([*KINDS, "batch first"]),
    sizes=st.lists(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (2, 8), (8, 2)])),
)
@settings(max_examples=30, deadline=None)
def test_no_sizes_give_rows_of_another_time(
    way: str, kind: str, sizes: Sequence[tuple[int, int]]
) -> None:
    if kind == "batch first":
        way = "ids"
    torch.manual_seed(0)
    model = TimeFirst(way, kind).eval()
    given = [of_time_first(model, random_ids(i, *some)) for i, some in enumerate(sizes)]
    seen, _ = read(model, "site", [partial(model, ids) for ids, _ in given])
    check(seen, "site", [row for _, right in given for row in right])


def test_padding_of_time_first_ids_is_found_in_torchs_own_mask() -> None:
    torch.manual_seed(0)
    model = TimeFirst("ids", "encoder").eval()
    texts = random_ids(0, 2, 5)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    seen, errors = read(model, "site", [lambda: model(texts.T, padding)])
    assert not errors
    (rows,) = seen
    assert [len(document) for document in rows.documents] == [5, 3]
    _, wanted = of_time_first(model, texts[1:, :3])
    torch.testing.assert_close(rows.sites["site"][5:], wanted[0][1])


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_refused_by_a_model_that_would_mix_them(kind: str) -> None:
    documents = {"square": random_ids(0, 4, 4), "others": random_ids(0, 3, 5)}
    for some in documents.values():
        for way in WAYS:
            torch.manual_seed(0)
            model = TimeFirst(way, kind).eval()
            loaded = LoadedModel(module=model, name="m")
            run = partial(record, loaded, some.tolist(), ["site"], dtype=torch.float32)
            if way == "ids":
                with pytest.raises(InvalidInput, match=r"token ids as \[tokens, sequences\]"):
                    list(run())
                continue
            (piece,) = run()
            _, wanted = of_time_first(model, some)
            torch.testing.assert_close(piece.sites["site"], torch.cat([row for _, row in wanted]))


class Layers(nn.Module):
    """Gives a site's rows on every order of axes."""

    def __init__(self, order: Sequence[int], heads: int) -> None:
        super().__init__()
        self.words, self.site = table(), nn.Identity()
        self.order, self.heads = tuple(order), heads

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x.unflatten(2, (self.heads, -1)) if self.heads else x
        return self.site(x.permute(self.order))


ORDERS = [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)]
HEADS = [(0, 1, 2, 3), (0, 2, 1, 3), (2, 0, 1, 3), (1, 0, 2, 3), (2, 1, 0, 3)]


@given(
    order=st.sampled_from([*ORDERS, *HEADS]),
    sizes=st.lists(st.tuples(*[st.sampled_from([1, 2, 3, 4, WIDTH])] * 2), max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_no_sizes_give_rows_on_other_axes(
    order: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> None:
    torch.manual_seed(0)
    model = Layers(order, 2 if len(order) == 4 else 0).eval()
    given = [random_ids(seed, *some) for seed, some in enumerate([*sizes, (5, 7), (6, 9)])]
    wanted: Rows = [
        (tuple(row.tolist()), model.words(row).detach()) for one in given for row in one
    ]
    seen, errors = read(model, "site", [partial(model, one) for one in given])
    assert not errors
    check(seen, "site", wanted)
    assert sum(rows.rows for rows in seen) == sum(one.numel() for one in given)
    seen, _ = read(model, "site", [partial(model, one) for one in given[:-2]])
    check(seen, "site", wanted)


class Mixer(nn.Module):
    """Mixes tokens by a layer on ``[texts, width, tokens]``; takes one length alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.site = table(), nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        return self.site(self.words(ids).transpose(1, 2))


def test_a_layer_over_as_many_tokens_as_its_width_is_refused() -> None:
    model, ids = Mixer(), random_ids(0, 3, WIDTH)
    seen, (error,) = read(model, "site", [lambda: model(ids)])
    assert not seen
    assert 'layout="batch_first"' in str(error)
    with pytest.raises(InvalidInput, match="fails on a text of 2 tokens"):
        list(record(LoadedModel(module=model, name="m"), ids.tolist(), ["site"]))


class Joined(nn.Module):
    """Reads two texts at once, one behind the other or one below the other."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.words, self.site, self.axis = table(), nn.Linear(WIDTH, WIDTH), axis

    def forward(self, prompt: Tensor, answer: Tensor) -> Tensor:
        return self.site(self.words(torch.cat([prompt, answer], self.axis)))


@pytest.mark.parametrize("axis", [0, 1])
def test_texts_that_are_read_at_once_are_one_table(axis: int) -> None:
    torch.manual_seed(0)
    model = Joined(axis).eval()
    given = [(random_ids(n, 2, n), random_ids(n + 50, 2, n)) for n in (WIDTH, 5, WIDTH // 2, 3)]
    wanted: Rows = [
        (tuple(row.tolist()), model.site(model.words(row)).detach())
        for pair in given
        for row in torch.cat(pair, axis)
    ]
    seen, errors = read(model, "site", [partial(model, *pair) for pair in given])
    assert not errors
    check(seen, "site", wanted)
    assert sum(rows.rows for rows in seen) == sum(len(ids) for ids, _ in wanted)


class Prefixed(nn.Module):
    """Puts states of its own before the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.site = table(), nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.site(torch.cat([x[:, :1], x[:, :1], x], 1))


def test_an_output_that_has_other_rows_is_refused_though_a_size_fits() -> None:
    model = Prefixed()
    for lengths in ((WIDTH,), (WIDTH, WIDTH), (WIDTH, 5), (5, WIDTH)):
        seen, errors = read(
            model, "site", [partial(model, random_ids(0, 2, length)) for length in lengths]
        )
        assert not seen
        assert len(errors) == len(lengths)


class Masked(nn.Module):
    """Is given a mask for each of its texts, by names that people use."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.encoder, self.decoder = table(), nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6)

    def rows(self, one: Tensor, other: Tensor) -> Tensor:
        return self.encoder(self.words(one)).sum() + self.decoder(self.words(other)).sum()


class TorchMasks(Masked):
    def forward(
        self, src: Tensor, tgt: Tensor, src_key_padding_mask: Tensor, tgt_key_padding_mask: Tensor
    ) -> Tensor:
        return self.rows(src, tgt)


class OwnMasks(Masked):
    def forward(
        self,
        query_ids: Tensor,
        query_attention_mask: Tensor,
        doc_ids: Tensor,
        doc_attention_mask: Tensor,
    ) -> Tensor:
        return self.rows(query_ids, doc_ids)


class OneMask(Masked):
    def forward(self, src: Tensor, tgt: Tensor, attention_mask: Tensor) -> Tensor:
        return self.rows(src, tgt)


def masked(kind: type[Masked], lengths: Sequence[int], others: Sequence[int]) -> Given:
    """Return texts and targets of some lengths with their masks."""
    given: Given = {}
    names = ("query", "doc") if kind is OwnMasks else ("src", "tgt")
    for seed, (name, some) in enumerate(zip(names, (lengths, others), strict=True)):
        keep = torch.arange(max(some))[None] < torch.tensor(some)[:, None]
        ids = random_ids(seed + 7 * max(some), *keep.shape)
        if kind is OwnMasks:
            given |= {f"{name}_ids": ids, f"{name}_attention_mask": keep.long()}
        elif kind is TorchMasks:
            given |= {name: ids, f"{name}_key_padding_mask": ~keep}
        else:
            given |= {name: ids, "attention_mask": keep} if name == "src" else {name: ids}
    return given


@pytest.mark.parametrize("kind", [TorchMasks, OwnMasks])
@pytest.mark.parametrize("site", ["encoder", "decoder"])
def test_masks_are_of_the_ids_that_bear_their_name(kind: type[Masked], site: str) -> None:
    torch.manual_seed(0)
    model = kind()
    cases = [((5, 2), (3, 5)), ((4, 1), (2, 3)), ((3, 3), (1, 3))]
    given = [masked(kind, *lengths) for lengths in cases]
    seen, errors = read(model, site, [partial(model, **one) for one in given])
    assert not errors
    found = [[len(document) for document in rows.documents] for rows in seen]
    assert found == [[*lengths[site == "decoder"]] for lengths in cases]


def test_a_mask_that_may_be_of_either_text_is_refused() -> None:
    torch.manual_seed(0)
    model = OneMask()
    equal, unequal = masked(OneMask, (5, 2), (5, 5)), masked(OneMask, (5, 2), (4, 4))
    for site, lengths in (("encoder", [5, 2]), ("decoder", [4, 4])):
        seen, (error,) = read(model, site, [partial(model, **unequal), partial(model, **equal)])
        assert [len(document) for document in seen[0].documents] == lengths
        assert "of which token ids attention_mask [2, 5] is cannot be told" in str(error)


def test_the_documents_argument_is_that_of_the_token_ids() -> None:
    class LabelsMayBe(Beside):
        def forward(self, labels: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
            return self.site(self.words(cast("Tensor", tokens)))

    refused: list[tuple[nn.Module, str]] = [
        (Translator("two"), "net.encoder"),
        (TypesFirst(), "site"),
        (LabelsFirst(), "site"),
    ]
    for model, site in refused:
        with pytest.raises(InvalidInput, match="beside token ids, which documents do not have"):
            list(record(LoadedModel(module=model, name="m"), [[1, 2, 3]], [site]))
    model = LabelsMayBe()
    (piece,) = record(LoadedModel(module=model, name="m"), [[1, 2, 3]], ["site"])
    assert piece.token_id.tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["shifted", "kinds inside", "positions inside", "both"])
def test_documents_are_of_what_the_embedding_reads_or_refused(name: str) -> None:
    torch.manual_seed(0)
    model = ONES[name].make().eval()
    documents = random_ids(0, 3, 5).tolist()
    run = partial(record, LoadedModel(module=model, name="m"), documents, ["site"])
    if not ONES[name].is_told or ONES[name].is_shifted:
        with pytest.raises(InvalidInput, match="token ids"):
            list(run())
        return
    (piece,) = run(dtype=torch.float32)
    wanted = [alone(model, "site", {"x": torch.tensor([ids])})[0] for ids in documents]
    torch.testing.assert_close(piece.sites["site"], torch.cat(wanted))
