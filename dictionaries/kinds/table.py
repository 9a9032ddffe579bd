"""The kinds there are: one row each. Imports no kind and no torch."""

from isogloss.dictionaries.registry import Registry

DEFAULT_KIND = "topk"
"""The kind that is trained where none is named."""

KINDS = Registry(
    noun="kind",
    group="isogloss.kinds",
    built_in={
        "batch_topk": "isogloss.dictionaries.kinds.batch_topk:BatchTopK",
        "gated": "isogloss.dictionaries.kinds.gated:Gated",
        "jumprelu": "isogloss.dictionaries.kinds.jumprelu:JumpReLU",
        "matryoshka_batch_topk": "isogloss.dictionaries.kinds.matryoshka:MatryoshkaBatchTopK",
        "relu_l1": "isogloss.dictionaries.kinds.relu_l1:ReluL1",
        "topk": "isogloss.dictionaries.kinds.topk:TopK",
    },
)
"""Name -> class. A package adds a row by an entry point in the group ``isogloss.kinds``."""


def kind_names() -> list[str]:
    """Return the names of all kinds that this environment can train, sorted."""
    return KINDS.names()
