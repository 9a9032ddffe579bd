"""Arguments of what records, and ids in what asks, of another type or out of their range.

What is wrong is refused at the call, in one of our errors, which names what was found and what is
wanted; nothing is made in the store, and no pass is run.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput, InvalidName, IsoglossError
from isogloss.models import LoadedModel, TextDocument
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.options import RecorderOptions
from isogloss.service.values.results import FeatureRef

# what a caller who does not check types can do: the functions are called as if they took anything
Anything = Callable[..., object]


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.first = nn.Linear(12, 12)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.first(self.embedding(input_ids))


MODEL = Tiny()
LOADED = LoadedModel(module=MODEL, tokenizer=None, name="tiny")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path: Path = tmp_path_factory.mktemp("arguments") / "store"
    with isogloss.connect(path, run_workers=False) as opened:
        yield opened


OPTIONS: dict[str, tuple[object, ...]] = {
    "corpus": (3, None),
    "producer": (3, None),
    "dtype": ("float64", torch.float32, None),
    "batch_rows": (0, -5, "9", 2.5, True, None),
    "max_tokens": (0, -1, "x", 1.5),
    "precision": ("float16", None, torch.float32),
    "direct": ("yes", 1, None),
    "root": (3,),
    "skip_first": (-1, "a", 1.5, None),
    "step": (-1, "x", 1.5, None, 2**64),
    "sample": (0, 2, "x", None, float("nan"), True),
    "call": ("first", 1.5, True),
    "layout": ("time_first", 3),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, some in OPTIONS.items() for v in some])
def test_options_of_documents_are_refused_when_they_are_made(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=name):
        cast("Anything", DocumentOptions)(**{name: value})


OF_A_RECORDER: dict[str, tuple[object, ...]] = {
    "on_full": ("wait", None, 3),
    "queue_bytes": (0, "1", 1.5),
    "batch_rows": (0, "1", 1.5, None),
    "wait_s": (0, -1, "x", None, float("nan")),
    "strict": ("x", 1, None),
    "sample": (0, 2, "x", None),
    "every": (0, "x", 1.5, True),
    "again": ("x", 1, None),
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, some in OF_A_RECORDER.items() for v in some]
)
def test_options_of_a_recorder_are_refused_when_they_are_made(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=name):
        cast("Anything", RecorderOptions)(**{name: value})


DOCUMENTS: dict[str, tuple[tuple[object, str], ...]] = {
    "model": (
        (MODEL, r"wanted a LoadedModel: give isogloss\.models\.load_model"),
        ("gpt2", "wanted a LoadedModel"),
        (None, "wanted a LoadedModel"),
        (Tiny, "wanted a LoadedModel"),
    ),
    "documents": (
        (["text"], r"document 0 is 'text' \(str\), wanted a TextDocument: give \[TextDocument\("),
        ([b"text"], "wanted a TextDocument"),
        ("text", "wanted a list"),
        (None, "wanted a list"),
        (7, "wanted a list"),
        ([1, 2], "token ids"),
        ([[1.5]], "token ids"),
        ([["a"]], "token ids"),
        ([[-1]], "token ids"),
        ([[2**40]], "token ids"),
        ([[[1], [2, 3]]], "token ids"),
        ([TextDocument(text="a")], "give lists of token ids, or a tokenizer"),
        ([TextDocument(text="a"), [1]], "give lists of token ids, or a tokenizer"),
    ),
    "sites": (
        ("first", "give a list of names"),
        (None, "give a list of names"),
        (3, "give a list of names"),
        ([], "name at least one"),
        ([3], "give names"),
        (["x*"], "nearest"),
        (["first", "first"], "twice"),
    ),
    "recording": (
        (3, "wanted text"),
        (None, "wanted text"),
        ("", "use lower-case"),
        ("A b", "use lower-case"),
    ),
    "options": (({"step": 1}, "wanted DocumentOptions"), (3, "wanted DocumentOptions")),
    "on_progress": (("x", "wanted a function"),),
    "on_route": ((3, "wanted a function"),),
}


@pytest.mark.parametrize(
    ("name", "value", "remedy"), [(n, v, r) for n, some in DOCUMENTS.items() for v, r in some]
)
def test_an_argument_of_record_documents_is_refused_at_the_call(
    client: Client, name: str, value: object, remedy: str
) -> None:
    given: dict[str, object] = {
        "model": LOADED,
        "documents": [[1, 2, 3]],
        "sites": ["first"],
        "recording": "never-made",
        name: value,
    }
    with pytest.raises(IsoglossError, match=remedy):
        cast("Anything", client.record_documents)(**given)
    assert client.recordings() == []


LIVE: dict[str, tuple[tuple[object, str], ...]] = {
    "model": (("gpt2", "give the module"), (3, "give the module"), (None, "give the module")),
    "tokenizer": (("gpt2", "AutoTokenizer"), (3, "AutoTokenizer")),
    "sites": DOCUMENTS["sites"],
    "recording": DOCUMENTS["recording"],
    "name": ((3, "wanted text"), (None, "wanted text")),
    "corpus": ((3, "wanted text"),),
    "producer": ((3, "wanted text"),),
    "dtype": (("float64", "'bfloat16', 'float16', 'float32'"), (torch.bfloat16, "'float16'")),
    "step": ((-1, "training step"), ("x", "training step"), (1.5, "training step")),
    "skip_first": ((-1, "0 or more"), ("x", "whole number"), (1.5, "whole number")),
    "call": (("x", "whole number"), (1.5, "whole number")),
    "layout": (("x", "batch_first"), (3, "batch_first")),
    "ids": (("tgt", "takes 'input_ids'"), (3, "wanted text")),
    "example": (("hello", "wanted a tensor"), (3, "wanted a tensor")),
    "ranks": (("two", "a process group"), (3, "a process group"), (None, "a process group")),
    "options": (({}, "wanted RecorderOptions"), (DocumentOptions(), "wanted RecorderOptions")),
    "direct": (("yes", "'auto'"), (1, "'auto'")),
    "root": ((3, "wanted a path"),),
}


@pytest.mark.parametrize(
    ("name", "value", "remedy"), [(n, v, r) for n, some in LIVE.items() for v, r in some]
)
def test_an_argument_of_record_is_refused_at_the_call(
    client: Client, name: str, value: object, remedy: str
) -> None:
    given: dict[str, object] = {
        "model": MODEL,
        "sites": ["first"],
        "recording": "never-made",
        name: value,
    }
    with pytest.raises(IsoglossError, match=remedy):
        cast("Anything", client.record)(**given)
    assert client.recordings() == []
    assert not MODEL._forward_hooks


@pytest.mark.parametrize(
    ("method", "arguments", "remedy"),
    [
        ("known", {"sequences": [[1]], "step": "x"}, "training step"),
        ("known", {"sequences": [[-1]]}, "token ids"),
        ("known", {"sequences": [["a"]]}, "token ids"),
        ("known", {"sequences": [1, 2]}, "token ids"),
        ("known", {"sequences": "abc"}, "pass token ids"),
        ("known", {"sequences": ["a", [1]]}, "give one kind"),
        ("open", {"widths": {}}, r"wanted the width of each site, such as {'first': 768}"),
        ("open", {"widths": 3}, "wanted the width"),
        ("open", {"widths": {"first": -1}}, "width -1"),
    ],
)
def test_an_argument_of_a_recorder_is_refused_at_the_call(
    client: Client, method: str, arguments: dict[str, object], remedy: str
) -> None:
    recorder = client.record(MODEL, sites=["first"], recording="never-made")
    with pytest.raises(IsoglossError, match=remedy):
        getattr(recorder, method)(**arguments)


NO_IDS: tuple[object, ...] = (7, None, b"a", ["a"], 1.5, torch.zeros(2))
ASKING: dict[str, Callable[[Client, object], object]] = {
    "recording": lambda client, value: cast("Anything", client.recording)(value),
    "read": lambda client, value: cast("Anything", client.read)(value, "first"),
    "tokens": lambda client, value: cast("Anything", client.tokens)(value),
    "steps": lambda client, value: cast("Anything", client.steps)(value),
    "verify": lambda client, value: cast("Anything", client.verify)(value),
    "train": lambda c, value: cast("Anything", c.train)(value, site="first", features=8, k=2),
    "dictionary": lambda client, value: cast("Anything", client.dictionary)(value),
    "dictionary_info": lambda client, value: cast("Anything", client.dictionary_info)(value),
    "match a": lambda client, value: cast("Anything", client.match)(value, "b"),
    "match b": lambda client, value: cast("Anything", client.match)("a", value),
    "ceilings": lambda client, value: cast("Anything", client.match)("a", "b", ceilings=[value]),
    "get_match": lambda client, value: cast("Anything", client.get_match)(value),
    "pairs": lambda client, value: cast("Anything", client.pairs)(value),
    "probe": lambda client, value: cast("Anything", client.probe)(value),
    "create_probe": lambda client, value: cast("Anything", client.create_probe)([value]),
    "among": lambda c, value: cast("Anything", c.nearest)(codes=[1.0], probe="p", among=[value]),
    "encode": lambda c, value: cast("Anything", c.encode)(value, torch.zeros(2, 4)),
}
"""Calls that take an id, or what has one."""


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("value", NO_IDS, ids=lambda value: type(value).__name__)
def test_what_is_no_id_is_refused_in_words(client: Client, name: str, value: object) -> None:
    with pytest.raises(IsoglossError, match=r"wanted (an id|text)"):
        ASKING[name](client, value)


def test_a_result_in_the_place_of_an_id_is_told_of_its_own(client: Client) -> None:
    class Result:
        id = "a"

    with pytest.raises(InvalidName, match=r"wanted an id, which it holds as \.id"):
        cast("Anything", client.recording)(Result())


@pytest.mark.parametrize("value", [7, "a/7", ("a", 7), None, {"feature": 7}])
def test_what_is_no_feature_is_refused_in_words(client: Client, value: object) -> None:
    with pytest.raises(InvalidInput, match=r"feature is .*, wanted what client|0 of feature"):
        cast("Anything", client.nearest)(value)
    with pytest.raises(InvalidInput, match=r"feature is .*, wanted what client"):
        cast("Anything", client.feature)(value)


@pytest.mark.parametrize("value", ["7", 7.0, None, -1, True, [7], np.zeros(2, np.int64)])
def test_a_number_of_a_feature_is_a_whole_one(value: object) -> None:
    with pytest.raises(InvalidInput, match="feature"):
        cast("Anything", FeatureRef)(dictionary="a", feature=value)


@pytest.mark.parametrize("value", [np.int32(7), np.uint64(7), torch.tensor(7), 7])
def test_numbers_of_numpy_and_torch_name_a_feature(value: object) -> None:
    made = cast("Callable[..., FeatureRef]", FeatureRef)(dictionary="a", feature=value)
    assert made == FeatureRef(dictionary="a", feature=7)
    assert type(made.feature) is int


FEATURE = FeatureRef(dictionary="a", feature=1)
ASKED: dict[str, tuple[Callable[[Client], object], str]] = {
    "count 0": (lambda c: c.nearest(FEATURE, count=0), "count is 0; it must be 1 or more"),
    "count": (lambda c: cast("Anything", c.nearest)(FEATURE, count="5"), "count is '5'"),
    "among": (lambda c: cast("Anything", c.nearest)(FEATURE, among="large"), r"\['large'\]"),
    "site": (
        lambda c: cast("Anything", c.nearest)(direction=[1.0], model="a", site=5),
        "site is 5",
    ),
    "contexts 0": (lambda c: c.feature(FEATURE, contexts=0), "contexts is 0"),
    "contexts": (lambda c: cast("Anything", c.feature)(FEATURE, contexts="a"), "contexts is 'a'"),
    "settings": (lambda c: cast("Anything", c.match)("a", "b", settings=[1]), "another type"),
    "min_r": (lambda c: cast("Anything", c.pairs)("m", min_r="x"), "another type"),
    "start": (lambda c: cast("Anything", c.read)("a", "first", "b", 3), "another type"),
    "etag": (lambda c: cast("Anything", c.delete_dictionary)("a", 5), "another type"),
}


@pytest.mark.parametrize("name", ASKED)
def test_an_argument_of_what_asks_is_refused_in_words(client: Client, name: str) -> None:
    ask, said = ASKED[name]
    with pytest.raises(InvalidInput, match=said):
        ask(client)


def test_a_call_with_arguments_that_it_does_not_have_stays_a_type_error(client: Client) -> None:
    for wrong in (
        lambda: cast("Anything", client.recording)(),
        lambda: cast("Anything", client.recording)("a", "b"),
        lambda: cast("Anything", client.nearest)(FEATURE, probes="p"),
    ):
        with pytest.raises(TypeError, match="argument") as raised:
            wrong()
        assert not isinstance(raised.value, IsoglossError)


@pytest.mark.parametrize(("address", "token"), [(7, None), (None, None), ("127.0.0.1:1", 5)])
def test_an_address_and_a_token_are_text(address: object, token: object) -> None:
    with pytest.raises(InvalidInput, match=r"wanted (a path|text)"):
        cast("Anything", isogloss.connect)(address, token=token)


_UNCHECKED = """
import numpy as np, torch
from isogloss.dictionaries import DictionaryModule, DictionaryProvenance, SparseDictionary
from isogloss.errors import IsoglossError
rows = torch.eye(4)
tensors = {"encoder": rows, "encoder_bias": torch.zeros(4), "decoder": rows}
tensors["decoder_bias"] = torch.zeros(4)
made = SparseDictionary.make("topk", {"features": 4, "k": 1}, tensors, DictionaryProvenance())
module, model = DictionaryModule(made), torch.nn.Sequential(torch.nn.Linear(4, 4))
for wrong in (
    lambda: module.encode(np.ones((2, 4), np.float32)),
    lambda: module.dense([[1.0] * 4]),
    lambda: module(None),
    lambda: module.spliced(model, 3).__enter__(),
):
    try:
        wrong()
    except IsoglossError as error:
        print(error)
"""


def test_a_dictionary_in_the_hand_says_what_it_takes() -> None:
    """Run where nothing checks types, as at a user's."""
    ended = subprocess.run(
        [sys.executable, "-c", _UNCHECKED], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    told = ended.stdout.splitlines()
    assert [line.partition(",")[0] for line in told] == [
        "activations are a ndarray",
        "activations are a list",
        "activations are a NoneType",
        "site is 3",
    ]
