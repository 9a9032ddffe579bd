"""Record a masked model of Hugging Face while it trains, and over documents."""

import sys
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertForMaskedLM

import isogloss
from isogloss.models import LoadedModel
from isogloss.service import DocumentOptions

TEXTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]  # token ids; with a tokenizer: texts
SITE = "bert.encoder.layer.1"  # any name in model.named_modules()


def main(store: Path) -> None:
    """Record both ways, and read the rows back."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with isogloss.connect(store) as client:
        client.record_documents(
            LoadedModel(module=model, name="tiny-bert"), TEXTS, sites=[SITE],
            recording="documents", options=DocumentOptions(dtype="float32"),
        )  # fmt: skip

        ids = pad_sequence([torch.tensor(text) for text in TEXTS], batch_first=True)
        mask = pad_sequence([torch.ones(len(text)) for text in TEXTS], batch_first=True)
        with client.record(model, sites=[SITE], recording="loop", dtype="float32"):
            loss = model(input_ids=ids, attention_mask=mask, labels=ids).loss
            loss.backward()
            optimiser.step()

        print(client.read("documents", SITE).shape, client.read("loop", SITE).shape)
        print(client.tokens("loop").position)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
