"""Documents are recorded once each, in order, over as many runs as it takes."""

import numpy as np
import torch
from torch import Tensor, nn

from isogloss import Client
from isogloss.models import LoadedModel, RecordProgress
from isogloss.service.recording.documents import DocumentOptions, record_documents

TEXTS = [[1, 2, 3], [4, 5], [1, 2, 3], [6, 7, 8, 9]]


class Tiny(nn.Module):
    """An embedding and one layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = nn.Embedding(20, 6)
        self.layer = nn.Linear(6, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.layer(self.embedding(input_ids))


def test_each_document_is_recorded_once_however_often_it_comes(
    local_client: Client, name: str
) -> None:
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    seen: list[RecordProgress] = []
    routes: list[str] = []

    def record(texts: list[list[int]], batch_rows: int = 8192) -> int:
        return record_documents(
            local_client,
            model,
            texts,
            sites=["layer"],
            recording=name,
            options=DocumentOptions(dtype="float32", batch_rows=batch_rows),
            on_progress=seen.append,
            on_route=routes.append,
        ).rows

    assert record(TEXTS[:2], batch_rows=1) == 5
    assert record(TEXTS) == 9
    assert record(TEXTS) == 9
    assert len(routes) == 3
    assert all(route.startswith("through ") for route in routes)
    assert [(p.documents, p.total_documents) for p in seen][-1] == (4, 4)
    tokens = local_client.tokens(name).token_id
    assert tokens.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    with torch.inference_mode():
        wanted = model.module(torch.tensor([tokens.tolist()]))[0].numpy()
    found = local_client.read(name, "layer").astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert [len(d.key) > 0 for d in local_client.documents(name).values()] == [True] * 3


def test_what_decides_the_rows_is_part_of_the_description(local_client: Client, name: str) -> None:
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    record_documents(
        local_client,
        model,
        TEXTS,
        sites=["layer"],
        recording=name,
        options=DocumentOptions(corpus="mine", max_tokens=7),
        on_progress=None,
    )
    spec = local_client.recording(name).spec
    assert dict(spec.provenance) == {"precision": "float32", "max_tokens": "7"}
    assert (spec.corpus, spec.has_spans, spec.sites[0].dtype) == ("mine", False, "bfloat16")
