"""Record a HookedTransformer of TransformerLens 3: its hook points are sites."""

import sys
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformer_lens import HookedTransformer, HookedTransformerConfig  # pyright: ignore[reportMissingImports] - make test-peers

import isogloss
from isogloss.models import LoadedModel
from isogloss.service import DocumentOptions

TEXTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]  # token ids; with a tokenizer: texts
SITE = "blocks.1.hook_resid_post"


def main(store: Path) -> None:
    """Record both ways, and read the rows back."""
    config = HookedTransformerConfig(
        n_layers=2, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=64, d_vocab=50,
        act_fn="gelu", seed=0,
    )  # fmt: skip
    model = HookedTransformer(config).eval()
    with isogloss.connect(store) as client:
        client.record_documents(
            LoadedModel(module=model, name="tiny-hooked"), TEXTS, sites=[SITE],
            recording="documents", options=DocumentOptions(dtype="float32"),
        )  # fmt: skip

        ids = pad_sequence([torch.tensor(text) for text in TEXTS], batch_first=True)
        mask = pad_sequence([torch.ones_like(torch.tensor(t)) for t in TEXTS], batch_first=True)
        with client.record(model, sites=[SITE], recording="loop", dtype="float32"), torch.no_grad():
            model(ids, attention_mask=mask)

        print(client.read("documents", SITE).shape, client.read("loop", SITE).shape)
        print(client.tokens("loop").position)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
