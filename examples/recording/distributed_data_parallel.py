"""Record a model that DistributedDataParallel trains; each rank has a producer of its own."""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss
from isogloss.models import LoadedModel
from isogloss.service import DocumentOptions

TEXTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]  # token ids; with a tokenizer: texts
SITE = "transformer.h.1"  # as in the model: wrappers are looked through


def main(store: Path) -> None:
    """Record both ways, and read the rows back."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4)).eval()
    store.parent.mkdir(parents=True, exist_ok=True)
    rendezvous = f"file://{store.parent.resolve()}/rendezvous"  # torchrun sets this by itself
    distributed.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    parallel = DistributedDataParallel(model)
    with isogloss.connect(store) as client:
        client.record_documents(
            LoadedModel(module=model, name="tiny-gpt2"), TEXTS, sites=[SITE],
            recording="documents", options=DocumentOptions(dtype="float32"),
        )  # fmt: skip

        ids = pad_sequence([torch.tensor(text) for text in TEXTS], batch_first=True)
        mask = pad_sequence([torch.ones(len(text)) for text in TEXTS], batch_first=True)
        producer = f"rank-{distributed.get_rank()}"
        with client.record(
            parallel, sites=[SITE], recording="loop", producer=producer, dtype="float32"
        ):
            parallel(input_ids=ids, attention_mask=mask)
    distributed.destroy_process_group()
    with isogloss.connect(store) as client:
        print(client.read("documents", SITE).shape, client.read("loop", SITE).shape)
        print(client.tokens("loop").position)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
