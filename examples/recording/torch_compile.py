"""Record a model that torch.compile has compiled in place."""

import sys
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss
from isogloss.models import LoadedModel
from isogloss.service import DocumentOptions

TEXTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]  # token ids; with a tokenizer: texts
SITE = "transformer.h.1"  # any name in model.named_modules()


def main(store: Path) -> None:
    """Record both ways, and read the rows back."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4)).eval()
    model.compile(backend="eager")  # leave the backend out where a C++ compiler is at hand
    with isogloss.connect(store) as client:
        client.record_documents(
            LoadedModel(module=model, name="tiny-gpt2"), TEXTS, sites=[SITE],
            recording="documents", options=DocumentOptions(dtype="float32"),
        )  # fmt: skip

        ids = pad_sequence([torch.tensor(text) for text in TEXTS], batch_first=True)
        mask = pad_sequence([torch.ones(len(text)) for text in TEXTS], batch_first=True)
        with client.record(model, sites=[SITE], recording="loop", dtype="float32"), torch.no_grad():
            model(input_ids=ids, attention_mask=mask)

        print(client.read("documents", SITE).shape, client.read("loop", SITE).shape)
        print(client.tokens("loop").position)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
