"""The embeddings in a model."""

from torch import nn
from transformers import BertConfig, BertModel

from isogloss.models.passes.ids.embeddings import embeddings


def test_embeddings_of_tokens_are_told_from_those_of_positions_and_types():
    model = nn.ModuleDict(
        {
            "wte": nn.Embedding(9, 4), "wpe": nn.Embedding(9, 4),
            "token_type_embeddings": nn.Embedding(2, 4), "rows": nn.Embedding(9, 4),
            "bag": nn.EmbeddingBag(9, 4), "layer": nn.Linear(4, 4),
        }
    )  # fmt: skip
    found = dict(embeddings(model).values())
    assert found == {"wte": True, "wpe": False, "token_type_embeddings": False, "rows": True}


def test_a_model_of_transformers_says_which_is_its_own():
    config = BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4
    )
    found = dict(embeddings(BertModel(config)).values())
    assert [path for path, may in found.items() if may] == ["embeddings.word_embeddings"]
