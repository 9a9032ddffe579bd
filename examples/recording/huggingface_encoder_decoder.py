"""Record the encoder of an encoder-decoder: by itself over documents, and in whole passes."""

import sys
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import T5Config, T5Model

import isogloss
from isogloss.models import LoadedModel
from isogloss.service import DocumentOptions

TEXTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]  # token ids; with a tokenizer: texts
SITE = "encoder.block.1"  # in the encoder alone: "block.1"


def main(store: Path) -> None:
    """Record both ways, and read the rows back."""
    torch.manual_seed(0)
    model = T5Model(T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4))
    model.eval()
    with isogloss.connect(store) as client:
        client.record_documents(
            LoadedModel(module=model.get_encoder(), name="tiny-t5"), TEXTS, sites=["block.1"],
            recording="documents", options=DocumentOptions(dtype="float32"),
        )  # fmt: skip

        ids = pad_sequence([torch.tensor(text) for text in TEXTS], batch_first=True)
        mask = pad_sequence([torch.ones(len(text)) for text in TEXTS], batch_first=True)
        with client.record(model, sites=[SITE], recording="loop", dtype="float32"), torch.no_grad():
            model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids)

        print(client.read("documents", "block.1").shape, client.read("loop", SITE).shape)
        print(client.tokens("loop").position)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
