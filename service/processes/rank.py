"""A rank: one of several processes that train together, started by a worker.

Started by :mod:`isogloss.service.tasks.ranks` as ``python -m isogloss.service.processes.rank STORE
PLACE RANK PROCESSES``. It ends when the worker does.
"""

import logging
import sys
from pathlib import Path

from isogloss.service.jobs.processes import end_with_supervisor
from isogloss.service.tasks.ranks import train_as_rank


def main() -> int:
    """Entry point of a rank."""
    end_with_supervisor()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    address, place, rank, processes = sys.argv[1:]
    return train_as_rank(address, Path(place), int(rank), int(processes))


if __name__ == "__main__":
    sys.exit(main())
