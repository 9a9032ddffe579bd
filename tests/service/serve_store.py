"""A real server process for tests: serve_store.py STORE OPTIONS(JSON); says its addresses."""

import errno
import json
import sys
from pathlib import Path

from isogloss.service.ingest import IngestLimits
from isogloss.service.server import ServerConfig, serve
from isogloss.store import Store
from isogloss.store.testing import FaultyFiles


def main() -> None:
    root, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    full_after = options.pop("full_after", 0)
    limits = IngestLimits(**options.pop("limits", {}))
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    store: Store | Path = root
    if full_after:
        files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
        store = Store.open(root, files=files)
        files.fail_at = files.count + full_after
    config = ServerConfig(limits=limits, run_workers=False, **options)
    serve(store, config, on_ready=lambda addresses: print(json.dumps(list(addresses)), flush=True))


if __name__ == "__main__":
    main()
