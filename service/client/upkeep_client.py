"""What both clients do to look after a store: lanes, verifying, rewriting, deleting."""

from collections.abc import Sequence

from isogloss.service.client import upkeep_requests
from isogloss.service.client.run_async import AwaitingClient
from isogloss.service.client.run_blocking import BlockingClient
from isogloss.service.client.upkeep_requests import OnCare
from isogloss.service.values.upkeep import DAY_S, Compression, Garbage, LaneInfo, Quantisation
from isogloss.store import Compaction, Problem


class CareClient(BlockingClient):
    """Care of recordings and deletion, with blocking calls.

    Calls with ``on_care`` take as long as it takes to read or rewrite what is stored: they have no
    deadline, tell at least once a second how far they are, and end early, between two steps, when
    the caller leaves; what was done stays. A recording has one of them at a time.
    """

    def lanes(self, recording: str) -> list[LaneInfo]:
        """Return what the writers of a recording wrote, in the order their rows are numbered."""
        return self.run(upkeep_requests.lanes(recording))

    def verify(self, recording: str, *, on_care: OnCare | None = None) -> list[Problem]:
        """Check every stored byte of a recording; an empty list when all is well.

        Args:
            recording: id of the recording.
            on_care: told how far it is; what it raises ends the check.

        Raises:
            Conflict: something else works on the recording.
        """
        return self.follow(upkeep_requests.verify(recording, on_care))

    def compact(
        self, recording: str, *, max_rows: int | None = None, on_care: OnCare | None = None
    ) -> Compaction:
        """Join the short sealed lanes of a recording; rows, numbers and revisions stay.

        Args:
            recording: id of the recording.
            max_rows: up to how many rows lanes are joined; None: about 1 GiB of the widest site.
            on_care: told how far it is; what it raises ends the work.

        Raises:
            Conflict: something else works on the recording.
            CorruptData: rows do not match the checksums of their commits; they were left.
            InvalidInput: ``max_rows`` is not positive.
        """
        return self.follow(upkeep_requests.compact(recording, max_rows, on_care))

    def compress(self, recording: str, *, on_care: OnCare | None = None) -> Compression:
        """Compress the sealed lanes of a recording; rows stay exactly what they are.

        Args:
            recording: id of the recording.
            on_care: told how far it is; what it raises ends the work.

        Raises:
            Conflict: something else works on the recording.
            CorruptData: rows do not match the checksums of their commits; they were left.
        """
        return self.follow(upkeep_requests.compress(recording, on_care))

    def quantise(
        self,
        recording: str,
        sites: Sequence[str] | None = None,
        *,
        accept_loss: bool,
        on_care: OnCare | None = None,
    ) -> Quantisation:
        """Round the rows of a recording's sealed lanes to 8 bits a number, for good.

        Reading gives the site's dtype as before; statistics stay those of what was recorded.

        Args:
            recording: id of the recording.
            sites: which; None: all.
            accept_loss: must be True: what is rounded cannot be had back.
            on_care: told how far it is; what it raises ends the work.

        Returns:
            The measured error of each site, and the bytes before and after.

        Raises:
            InvalidInput: ``accept_loss`` is False.
            UnknownSite: no such site; the message lists the nearest names.
            Conflict: something else works on the recording.
        """
        plan = upkeep_requests.quantise(recording, sites, accept_loss=accept_loss, on_care=on_care)
        return self.follow(plan)

    def collect_garbage(self, older_s: float = DAY_S, *, on_care: OnCare | None = None) -> Garbage:
        """Remove what crashes and deletions left in the store, and the logs of ended jobs.

        Args:
            older_s: what is younger stays; lanes that never began go at once.
            on_care: told how far it is; what it raises ends the work.

        Raises:
            InvalidInput: ``older_s`` is negative.
            Conflict: something works on a recording.
        """
        return self.follow(upkeep_requests.collect_garbage(older_s, on_care))

    def delete_dictionary(self, dictionary: str, etag: str, *, cascade: bool = False) -> list[str]:
        """Delete a dictionary.

        Args:
            dictionary: its id.
            etag: of the version that you mean, as :meth:`Client.dictionary` gave it.
            cascade: also delete the matches and codes of it, and take it from the probes that have
                it; what is left of such a probe is indexed anew by a job.

        Returns:
            Names of what was deleted or changed with it, such as ``matches/a-b``.

        Raises:
            Conflict: ``etag`` is not its newest, a job uses it, or without ``cascade`` something
                mentions it; the message names what.
        """
        return self.run(upkeep_requests.delete_dictionary(dictionary, etag, cascade=cascade))

    def delete_probe(self, probe: str, etag: str, *, cascade: bool = False) -> list[str]:
        """Delete a probe with its codes and its atlas; with ``cascade`` also the matches on it.

        Returns:
            Names of the matches that were deleted with it.

        Raises:
            Conflict: ``etag`` is not its newest, a job uses it, or without ``cascade`` a match is
                on it.
        """
        return self.run(upkeep_requests.delete_probe(probe, etag, cascade=cascade))

    def delete_match(self, match: str, etag: str) -> None:
        """Delete a match; Conflict where ``etag`` is not its newest."""
        self.run(upkeep_requests.delete_match(match, etag))


class AsyncCareClient(AwaitingClient):
    """The same for asyncio; arguments and errors as for :class:`CareClient`."""

    async def lanes(self, recording: str) -> list[LaneInfo]:
        """Return what the writers of a recording wrote, in the order their rows are numbered."""
        return await self.run(upkeep_requests.lanes(recording))

    async def verify(self, recording: str, *, on_care: OnCare | None = None) -> list[Problem]:
        """Check every stored byte of a recording; an empty list when all is well."""
        return await self.follow(upkeep_requests.verify(recording, on_care))

    async def compact(
        self, recording: str, *, max_rows: int | None = None, on_care: OnCare | None = None
    ) -> Compaction:
        """Join the short sealed lanes of a recording; rows, numbers and revisions stay."""
        return await self.follow(upkeep_requests.compact(recording, max_rows, on_care))

    async def compress(self, recording: str, *, on_care: OnCare | None = None) -> Compression:
        """Compress the sealed lanes of a recording; rows stay exactly what they are."""
        return await self.follow(upkeep_requests.compress(recording, on_care))

    async def quantise(
        self,
        recording: str,
        sites: Sequence[str] | None = None,
        *,
        accept_loss: bool,
        on_care: OnCare | None = None,
    ) -> Quantisation:
        """Round the rows of a recording's sealed lanes to 8 bits a number, for good."""
        plan = upkeep_requests.quantise(recording, sites, accept_loss=accept_loss, on_care=on_care)
        return await self.follow(plan)

    async def collect_garbage(
        self, older_s: float = DAY_S, *, on_care: OnCare | None = None
    ) -> Garbage:
        """Remove what crashes and deletions left in the store, and the logs of ended jobs."""
        return await self.follow(upkeep_requests.collect_garbage(older_s, on_care))

    async def delete_dictionary(
        self, dictionary: str, etag: str, *, cascade: bool = False
    ) -> list[str]:
        """Delete a dictionary, with ``cascade`` what mentions it; return the names of the rest."""
        return await self.run(upkeep_requests.delete_dictionary(dictionary, etag, cascade=cascade))

    async def delete_probe(self, probe: str, etag: str, *, cascade: bool = False) -> list[str]:
        """Delete a probe, with ``cascade`` the matches on it; return the names of those."""
        return await self.run(upkeep_requests.delete_probe(probe, etag, cascade=cascade))

    async def delete_match(self, match: str, etag: str) -> None:
        """Delete a match; Conflict where ``etag`` is not its newest."""
        await self.run(upkeep_requests.delete_match(match, etag))
