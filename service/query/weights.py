"""What queries compute with the weights of dictionaries; imports torch."""

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from isogloss.dictionaries import (
    ScreenedDictionary,
    SparseDictionary,
    check_recording,
    check_rows,
    check_weights,
    load_dictionary,
    read_passport,
)
from isogloss.errors import ShapeError
from isogloss.kernels import Codes
from isogloss.service.query.last_used import LastUsed
from isogloss.service.values.dictionary_bodies import sources_of, wiring_of
from isogloss.store import CatalogEntry, Store

_KEPT_BYTES = 2 << 30
"""Bytes of weights that stay in memory: those used last."""


class StoredWeights:
    """Reads the weights of a store's dictionaries, and keeps the last used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._kept = LastUsed[str, ScreenedDictionary](lambda kept: kept.nbytes)

    def of(self, entry: CatalogEntry) -> SparseDictionary:
        """Return the weights of a dictionary. The last used 2 GiB of them stay in memory.

        Raises:
            PassportRefused: they are other than their passport says, such as with another k.
        """
        return self.screened(entry).dictionary

    def screened(self, entry: CatalogEntry) -> ScreenedDictionary:
        """Return a dictionary that encodes a few rows quickly, such as those of a text."""
        with self._lock:
            if entry.uid not in self._kept:
                directory = self._store.artifact("dictionary", entry.uid)
                loaded, passport = load_dictionary(directory), read_passport(directory)
                if passport is not None:
                    check_weights(passport, loaded).require()
                self._kept.put(entry.uid, ScreenedDictionary(loaded), most=_KEPT_BYTES)
            return self._kept[entry.uid]

    def encode(
        self,
        entry: CatalogEntry,
        rows: NDArray[np.float32],
        recording: str | None,
        site: str | None,
        allow: Sequence[str],
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return values and feature indices of rows, both ``[rows, k]``, strongest first.

        Raises:
            ShapeError: the rows are not of the dictionary's width.
            PassportRefused: the recording, site or scale is another than in training.
        """
        loaded = self.of(entry)
        if rows.shape[1] != loaded.width:
            raise ShapeError(
                f"rows have width {rows.shape[1]} and dictionary {entry.id!r} reads "
                f"{loaded.width}: encode rows of {_read_sites(entry)}"
            )
        given = torch.from_numpy(rows)
        if recording is not None:
            self._check_passport(entry, recording, site, given, allow)
        codes = loaded.encode(given).to_fixed()
        return codes.values.numpy(force=True), codes.indices.numpy(force=True)

    def decode(
        self, entry: CatalogEntry, values: NDArray[np.float32], indices: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Return the rows that codes stand for, without the part of a linear map."""
        loaded = self.of(entry)
        codes = Codes(
            values=torch.from_numpy(values.copy()),
            indices=torch.from_numpy(indices.copy()),
            features=loaded.features,
        )
        return loaded.decode(codes).numpy(force=True)

    def _check_passport(
        self,
        entry: CatalogEntry,
        recording: str,
        site: str | None,
        rows: torch.Tensor,
        allow: Sequence[str],
    ) -> None:
        passport = read_passport(self._store.artifact("dictionary", entry.uid))
        spec = self._store.recording(recording).spec
        sites = [source.site for source in sources_of(entry.body)] if site is None else [site]
        if passport is not None:
            found = check_recording(passport, spec, sites)
            (found + check_rows(passport, rows)).require(allow)


def _read_sites(entry: CatalogEntry) -> str:
    """Name the sites that a dictionary reads, in the order in which their columns lie."""
    sites = [source.site for source in sources_of(entry.body)]
    if len(sites) == 1:
        return f"the site it was trained on, {sites[0]!r}"
    if wiring_of(entry.body) == "transcoder":
        return f"the site that this transcoder reads, {sites[0]!r}"
    return f"its sites {', '.join(map(repr, sites))}, side by side in this order"
