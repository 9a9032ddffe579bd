"""An own loop and ``record_documents`` of the same texts, counted on universality's grid of words.

The loop is recorded three times: its texts are said, said and cut off by the model, or what its
tokens decode to. Beside it stands a recording of the same texts with another tokenizer.

``PYTHONPATH=benchmarks:src python -m capture_figures.models_combined``
"""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from house_figures.figure import Figure
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as kinds
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

import isogloss
from isogloss.models import LoadedModel, TextDocument, passages, standard_library_texts
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.options import RecorderOptions
from isogloss.store import RecordingReader, Store
from isogloss.universality import Probe, build_probe, segment_rows

SITE = "h.1"
LOOPS = ("said", "cut", "decoded")
"""Ways of a loop: texts said, texts said and longer than what the model reads, and decoded ones."""
_POSITIONS, _CUT, _BATCH = 512, 24, 8
_OTHERS = (
    "Zoë naïvely paid 12 € for a café au lait — twice.\n\n\tTabs,  double  spaces.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ ខ្មែរ 中文也没有空格。",
    "👩‍👩‍👧‍👦 and 🏳️‍🌈 are one sign each; e\u0301 is two code points.",
    "  leading and trailing white space  ",
    "x",
)


def texts_in_other_scripts() -> list[TextDocument]:
    """Return texts with odd white space, without spaces, and with signs of several code points."""
    return [TextDocument(text=text) for text in _OTHERS]


def byte_level(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer as GPT-2's, trained on texts: decoding gives the text back."""
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )


def word_pieces(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer as BERT's, trained on texts: it keeps neither case nor white space."""
    tokenizer = Tokenizer(kinds.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def tiny_gpt2(tokenizer: PreTrainedTokenizerFast) -> GPT2Model:
    """Return a model of two layers with random weights."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=_POSITIONS,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2Model(config).eval()


def run_loop(
    client: isogloss.Client,
    model: GPT2Model,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[TextDocument],
    way: str,
) -> None:
    """Run a user's own loop over texts, in padded batches, with a recorder that raises."""
    options = RecorderOptions(strict=True)
    with (
        torch.no_grad(),
        client.record(model, tokenizer, sites=[SITE], recording=way, options=options) as recorder,
    ):
        for start in range(0, len(texts), _BATCH):
            some = texts[start : start + _BATCH]
            inputs = tokenizer(
                [text.text for text in some],
                padding=True,
                truncation=True,
                max_length=_CUT if way == "cut" else _POSITIONS,
                return_tensors="pt",
            )
            with nullcontext() if way == "decoded" else recorder.documents(some):
                model(**inputs)


def shared(probe: Probe, loop: RecordingReader, documents: RecordingReader) -> tuple[int, int]:
    """Return in how many segments both have the same token of the text, and how many either has."""
    counted = [segment_rows(probe, reader) for reader in (loop, documents)]
    spans = []
    for rows, reader in zip(counted, (loop, documents), strict=True):
        span = np.asarray(reader.tokens().span)
        spans.append(np.where(rows[:, None] >= 0, span[rows], -1))
    has = [rows >= 0 for rows in counted]
    same = has[0] & has[1] & (spans[0] == spans[1]).all(1)
    return int(same.sum()), int((has[0] | has[1]).sum())


def models_combined(texts: Sequence[TextDocument] | None = None) -> Figure:
    """Measure [models_combined]: the least share of segments of a loop's ways.

    Args:
        texts: what is recorded; None: passages of the standard library's help, and texts in other
            scripts.
    """
    if texts is None:
        texts = [
            *passages(standard_library_texts()[:200], words=60)[:60],
            *texts_in_other_scripts(),
        ]
    plain = [text.text for text in texts]
    tokenizer, other = byte_level(plain), word_pieces(plain)
    model = tiny_gpt2(tokenizer)
    with tempfile.TemporaryDirectory(prefix="isogloss-combined-") as folder:
        store = Path(folder, "store")
        with isogloss.connect(store, run_workers=False) as client:
            for name, module, its, most in (
                ("documents", model, tokenizer, _POSITIONS),
                ("documents-cut", model, tokenizer, _CUT),
                ("other", tiny_gpt2(other), other, _POSITIONS),
            ):
                client.record_documents(
                    LoadedModel(module=module, tokenizer=its, name=name),
                    texts,
                    sites=[SITE],
                    recording=name,
                    options=DocumentOptions(max_tokens=most),
                )
            for way in LOOPS:
                run_loop(client, model, tokenizer, texts, way)
        shares, across = _counted(store)
    return Figure(
        figure="models_combined",
        value=100.0 * min(same / most for same, most in shares.values()),
        bar=100,
        at_most=False,
        unit="% of the segments that a loop or record_documents has, the worst way of a loop",
        peers={
            "texts": len(texts),
            "same and all, by way": shares,
            "% of the segments of record_documents with another tokenizer": across,
        },
        is_doubtful=not all(most for _, most in shares.values()),
    )


def _counted(store: Path) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """Count each way of the loop beside the documents, and beside another tokenizer's."""
    shares: dict[str, tuple[int, int]] = {}
    across: dict[str, float] = {}
    with Store.open(store) as opened:
        readers = {info.id: opened.recording(info.id).reader() for info in opened.recordings()}
        probe = build_probe({"documents": readers["documents"]}, holdout=1.0, grid="word_ends")
        missing = readers["other"].documents().keys() ^ readers["documents"].documents().keys()
        for way in LOOPS:
            documents = readers["documents-cut" if way == "cut" else "documents"]
            same, most = shared(probe, readers[way], documents)
            strangers = readers[way].documents().keys() ^ documents.documents().keys()
            shares[way] = same, most + len(strangers)  # each is a segment at least
            rows = [segment_rows(probe, reader) >= 0 for reader in (readers[way], readers["other"])]
            both, most = int((rows[0] & rows[1]).sum()), int(rows[1].sum())
            across[way] = 100.0 * both / (most + len(missing))
    return shares, across


if __name__ == "__main__":
    print(models_combined().to_dict())
