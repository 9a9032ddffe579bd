"""Record torch's own TransformerEncoder, which packs padded texts into nested tensors."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import isogloss
from isogloss.models import LoadedModel
from isogloss.service import DocumentOptions

TEXTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]
SITE = "encoder.layers.1"


class Model(nn.Module):
    """In evaluation without gradients the encoder computes on nested tensors, without padding."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.table = nn.Embedding(50, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return [texts, tokens, width]."""
        padding = None if attention_mask is None else attention_mask == 0
        return self.encoder(self.table(input_ids), src_key_padding_mask=padding)


def main(store: Path) -> None:
    """Record both ways, and read the rows back."""
    torch.manual_seed(0)
    model = Model().eval()
    with isogloss.connect(store) as client:
        loaded = LoadedModel(module=model, name="mine")
        options = DocumentOptions(dtype="float32")
        client.record_documents(loaded, TEXTS, sites=[SITE], recording="documents", options=options)
        ids = pad_sequence([torch.tensor(text) for text in TEXTS], batch_first=True)
        mask = pad_sequence([torch.ones(len(text)) for text in TEXTS], batch_first=True)
        with client.record(model, sites=[SITE], recording="loop", dtype="float32"), torch.no_grad():
            model(ids, attention_mask=mask)
        print(client.read("documents", SITE).shape, client.read("loop", SITE).shape)
        print(client.tokens("loop").position)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
