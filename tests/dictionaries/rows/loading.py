"""What ``test_dataset.py`` runs in processes of its own: loaders with workers, killed and resumed.

``python loading.py MODE STORE FILE [ARGUMENTS]``
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from isogloss.dictionaries import RowDataset, TensorBatch
from isogloss.errors import InvalidInput
from isogloss.store import RecordingReader, Sampling, Store

SITE = "layer.2"


def pinned(store: str) -> RecordingReader:
    """Read what is in the store now."""
    with Store.attach(store) as attached:
        return attached.recording("sample").reader()


def made(store: str, kind: str) -> RowDataset:
    """Make a data set of rows or of pairs."""
    sampling = Sampling.pairs() if kind == "pairs" else None
    return RowDataset(
        pinned(store),
        [SITE],
        batch_rows=20,
        seed=3,
        epochs=2,
        sampling=sampling,
        columns=["token_id"],
    )


def told(batch: TensorBatch) -> list[object]:
    """Say what is in a batch, so that equal batches say the same."""
    values = float(batch.sites[SITE].double().sum())
    return [batch.epoch, batch.step, batch.rows.tolist(), batch.tokens["token_id"].tolist(), values]


def listed(store: str, file: Path, kind: str, workers: int) -> None:
    """Write all batches of three passes: at the start, resumed, and at another epoch."""
    dataset = made(store, kind)
    loader = dataset.loader(workers=workers)
    whole = list(loader)
    dataset.load_state_dict(whole[2].state)
    resumed = list(loader)
    dataset.set_epoch(5)
    passes = [whole, resumed, list(loader)]
    file.write_text(json.dumps([[told(batch) for batch in found] for found in passes]))


def slow(store: str, file: Path, kind: str, workers: int) -> None:
    """Write a line a batch and its state, slowly; go on behind the last line that is there."""
    dataset = made(store, kind)
    lines = file.read_text().splitlines() if file.exists() else []
    if lines:
        dataset.load_state_dict(json.loads(lines[-1])[1])
    with file.open("a") as out:
        for batch in dataset.loader(workers=workers):
            out.write(json.dumps([told(batch), batch.state]) + "\n")
            out.flush()
            time.sleep(0.02)


def forked(store: str, file: Path, kind: str, workers: int) -> None:
    """Write the error that forked workers give."""
    loader = DataLoader(
        made(store, kind), batch_size=None, num_workers=workers, multiprocessing_context="fork"
    )
    try:
        list(loader)
    except InvalidInput as error:
        file.write_text(str(error))


class WithStates(IterableDataset[tuple[list[object], dict[str, int]]]):
    """Batches with the state that the worker's data set has then."""

    def __init__(self, dataset: RowDataset, states: list[dict[str, int]]) -> None:
        """States are what each worker begins at; none: at the start."""
        self.dataset = dataset
        self.states = states

    def __iter__(self) -> Iterator[tuple[list[object], dict[str, int]]]:
        """Yield the batches of one worker."""
        worker = get_worker_info()
        if self.states and worker is not None:
            self.dataset.load_state_dict(self.states[worker.id])
        for batch in self.dataset:
            yield told(batch), self.dataset.state_dict()


def states(store: str, file: Path, kind: str, workers: int) -> None:
    """Write all batches; and those of workers that begin where each of them had come to."""

    def loader(found: list[dict[str, int]]) -> DataLoader[tuple[list[object], dict[str, int]]]:
        return DataLoader(
            WithStates(made(store, kind), found),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="spawn",
        )

    whole = list(loader([]))
    last = [whole[number][1] for number in range(2 * workers, 3 * workers)]
    resumed = list(loader(last))
    file.write_text(json.dumps([[batch for batch, _ in found] for found in (whole, resumed)]))


MODES = {"listed": listed, "slow": slow, "forked": forked, "states": states}


if __name__ == "__main__":
    mode, root, out, what, count = sys.argv[1:]
    MODES[mode](root, Path(out), what, int(count))
