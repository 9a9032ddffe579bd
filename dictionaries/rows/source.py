"""A site of a recording, as the input of a training run."""

from dataclasses import dataclass

from isogloss.short_repr import short_repr
from isogloss.store import RecordingReader


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One site of a recording."""

    reader: RecordingReader
    """The recording, pinned by its revision."""
    site: str
    """Name of the site."""

    __repr__ = short_repr

    @property
    def width(self) -> int:
        """Columns of its rows.

        Raises:
            UnknownSite: the recording has no such site; the message lists the nearest names.
        """
        spec = self.reader.spec
        return spec.sites[spec.site_index(self.site)].width
