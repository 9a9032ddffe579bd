"""Arguments with which each public method of a client can be called."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from isogloss.dictionaries import TokenEffect, TokenEffects
from isogloss.service import FeatureRef
from isogloss.store import ImportColumns, SiteSpec
from isogloss.store.testing import sample_spec

SPEC = sample_spec("a", sites=(SiteSpec(name="s", width=2, dtype="float32"),))
LIFE = frozenset({"run", "iterate", "close"})
"""Methods that make no call of their own."""
OVER_A_CONNECTION = frozenset(
    {
        *("appender", "stream", "record", "record_documents", "reader", "export", "import_rows"),
        "export_match",
    }
)
FEATURE = FeatureRef(dictionary="d", feature=1)
ROWS = np.zeros((3, 2), np.float32)
COLUMNS = ImportColumns(token_id=np.zeros(3, np.uint32), documents=(), rows_per_document=3)

UP = (TokenEffect(token="a", token_id=3, change=0.5),)
EFFECTS = TokenEffects(
    feature=1, promoted=UP, suppressed=(), direct_promoted=UP, direct_suppressed=(), agreement=0.25
)

CODES: Mapping[str, np.ndarray] = {
    "segment": np.array([0]),
    "feature": np.array([1]),
    "value": np.array([1.0], np.float32),
}

ARGUMENTS: Mapping[str, Mapping[str, object]] = {
    "create_recording": {"spec": SPEC, "vocabulary": ["x"]},
    "recording": {"recording": "a"},
    "recordings": {},
    "delete_recording": {"recording": "a", "etag": "e"},
    "vocabulary": {"recording": "a"},
    "statistics": {"recording": "a", "site": "s"},
    "read": {"recording": "a", "site": "s", "start": 0, "stop": 3},
    "tokens": {"recording": "a", "start": 0, "stop": 3},
    "documents": {"recording": "a"},
    "known_documents": {"recording": "a", "step": 3},
    "steps": {"recording": "a"},
    "lanes": {"recording": "a"},
    "end_direct_lane": {"recording": "a", "lane": "l"},
    "give_up_lanes": {"recording": "a", "accept_loss": True},
    "verify": {"recording": "a"},
    "compact": {"recording": "a", "max_rows": 5},
    "compress": {"recording": "a"},
    "quantise": {"recording": "a", "sites": ["s"], "accept_loss": True},
    "collect_garbage": {"older_s": 5.0},
    "train": {"recording": "a", "site": "s", "features": 8},
    "floor": {"dictionary": "d"},
    "train_many": {"recording": "a", "site": "s", "runs": [{"features": 8}, {"features": 9}]},
    "kinds": {},
    "wirings": {},
    "dictionary": {"dictionary": "d"},
    "dictionary_info": {"dictionary": "d"},
    "dictionaries": {},
    "delete_dictionary": {"dictionary": "d", "etag": "e"},
    "keep_token_effects": {"dictionary": "d", "effects": [EFFECTS]},
    "encode": {"dictionary": "d", "rows": ROWS},
    "decode": {"dictionary": "d", "values": ROWS, "indices": ROWS.astype(np.int32)},
    "create_probe": {"recordings": ["a"]},
    "probe": {"probe": "p"},
    "probes": {},
    "delete_probe": {"probe": "p", "etag": "e"},
    "segments": {"probe": "p"},
    "import_codes": {"probe": "p", "codes": CODES, "dictionary": "d", "features": 4},
    "nearest": {"feature": FEATURE, "among": ["e"]},
    "feature": {"feature": FEATURE},
    "match": {"a": "d", "b": "e"},
    "get_match": {"match": "m"},
    "matches": {},
    "pairs": {"match": "m"},
    "delete_match": {"match": "m", "etag": "e"},
    "jobs": {},
    "job": {"name": "j"},
    "watch": {"job": "j"},
    "server_info": {},
    "ping": {},
    "appender": {"recording": "a", "producer": "p", "reconnect_s": 0.0},
    "stream": {"recording": "a", "producer": "p", "direct": False, "reconnect_s": 0.0},
    "record": {"model": None, "sites": ["s"], "recording": "a"},
    "record_documents": {"model": None, "documents": [[1]], "sites": ["s"], "recording": "a"},
    "export_match": {"match": "m", "path": Path("/nowhere/at/all.csv")},
    "reader": {"recording": "a", "root": Path("/nowhere/at/all")},
    "export": {"recording": "a", "directory": Path("/nowhere/at/all")},
    "import_rows": {"spec": SPEC, "vocabulary": ["x"], "sources": {"s": ROWS}, "columns": COLUMNS},
}
