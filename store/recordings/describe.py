"""Describe the lanes of a recording as they are on disk: tiers and bytes."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isogloss.errors import NotFound
from isogloss.short_repr import short_repr
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.lanes.state import LaneState
from isogloss.store.recordings.recording import Recording
from isogloss.store.shards.layout import compressed_directory, site_directory
from isogloss.store.shards.quantised import QuantisationError, quantised_directory, read_error

Tier = Literal["live", "sealed", "compressed", "quantised"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneSite:
    """The rows of one site in one lane."""

    site: str
    """Name of the site."""

    tier: Tier
    """``live`` while its writer adds to it, ``sealed`` as written, ``compressed`` exact and
    smaller, ``quantised`` rounded to 8 bits a number."""

    stored_bytes: int
    """Size of its files."""

    error: QuantisationError | None = None
    """Measured difference between rounded rows and those recorded; None where rows are exact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneDescription:
    """A lane as it is on disk."""

    state: LaneState
    """The rows and batches that are committed in the lane."""

    sites: tuple[LaneSite, ...]
    """The rows of each site; none where they were retired, or lost and given up."""

    stored_bytes: int
    """Size of all its files: rows, columns, documents, statistics, log. For a lane that was not
    moved to shards yet, of its rows alone.
    """

    __repr__ = short_repr


def describe_lane(recording: Recording, state: LaneState) -> LaneDescription:
    """Describe a lane of a recording as it is on disk; what is removed meanwhile is left out.

    Args:
        recording: whose lane it is.
        state: one of :meth:`Recording.lanes`.

    Returns:
        The description.

    Raises:
        StorageError: a directory cannot be read.
    """
    if state.is_lost:
        return LaneDescription(state=state, sites=(), stored_bytes=0)
    files, directory = recording.files, recording.directory / "lanes" / state.name
    with storage_errors(f"lane {state.name!r} of recording {recording.id!r} cannot be described"):
        names = set(files.names(directory))
        if state.seal is None and not names:
            return _describe_in_commits(recording, state)
        sites = [
            found
            for index in range(len(recording.spec.sites))
            if (found := _describe_site(recording, state, index, names)) is not None
        ]
        total = _stored_bytes(files, directory)
    return LaneDescription(state=state, sites=tuple(sites), stored_bytes=total)


def _describe_in_commits(recording: Recording, state: LaneState) -> LaneDescription:
    """Describe a fenced lane whose rows are in the files of its commits, without reading them."""
    sites = tuple(
        LaneSite(site=site.name, tier="live", stored_bytes=state.rows * site.row_bytes)
        for site in recording.spec.sites
    )
    total = sum(site.stored_bytes for site in sites)
    return LaneDescription(state=state, sites=sites, stored_bytes=total)


def _describe_site(
    recording: Recording, state: LaneState, index: int, names: set[str]
) -> LaneSite | None:
    files, directory = recording.files, recording.directory / "lanes" / state.name
    tiers: list[tuple[Tier, str]] = [
        ("quantised", quantised_directory(index)),
        ("compressed", compressed_directory(index)),
        ("live" if state.seal is None else "sealed", site_directory(index)),
    ]
    for tier, name in tiers:
        if name in names:
            error = None
            if tier == "quantised":
                with contextlib.suppress(NotFound):
                    error = read_error(files, directory, index)
            return LaneSite(
                site=recording.spec.sites[index].name,
                tier=tier,
                stored_bytes=_stored_bytes(files, directory / name),
                error=error,
            )
    return None


def _stored_bytes(files: FileSystem, path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory; 0 for what is gone."""
    if files.is_directory(path):
        return sum(_stored_bytes(files, path / name) for name in files.names(path))
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        return 0
    try:
        return files.size(descriptor)
    finally:
        files.close(descriptor)
