"""The blocking and the asynchronous client, for a store in this process or behind a server.

Each call is defined once, in the module of its topic (recordings, writing, files, upkeep,
dictionaries, universality, jobs, server), beside the two classes that have it as a method.
"""

import math

from isogloss.errors import IsoglossError
from isogloss.service.client.dictionaries import AsyncDictionariesClient, DictionariesClient
from isogloss.service.client.files import AsyncFilesClient, FilesClient
from isogloss.service.client.jobs import AsyncJobsClient, JobsClient
from isogloss.service.client.recordings import AsyncRecordingsClient, RecordingsClient
from isogloss.service.client.server import AsyncServerClient, ServerClient
from isogloss.service.client.universality import AsyncUniversalityClient, UniversalityClient
from isogloss.service.client.upkeep import AsyncUpkeepClient, UpkeepClient
from isogloss.service.client.writing import AsyncWritingClient, WritingClient
from isogloss.service.values.html import card, table


class Client(
    RecordingsClient,
    WritingClient,
    FilesClient,
    UpkeepClient,
    DictionariesClient,
    UniversalityClient,
    JobsClient,
    ServerClient,
):
    """A client whose methods block. :func:`isogloss.connect` makes one.

    Several threads may use it at once. A process that was forked must connect again.
    """

    def _repr_html_(self) -> str:
        """Show in a notebook what the store holds; where it does not answer, why."""
        facts: dict[str, object] = {"store": self.address}
        try:
            recordings, dictionaries = self.recordings(), self.dictionaries()
            facts["matches"] = ", ".join(found.id for found in self.matches())
        except IsoglossError as error:
            return card("isogloss client", {**facts, "does not answer": str(error)})
        return card(
            "isogloss client",
            facts,
            table(
                ("recording", "model", "rows"),
                [(found.id, found.spec.model.name, found.rows) for found in recordings],
                "no recordings yet",
            ),
            table(
                ("dictionary", "recording", "site", "features", "fvu"),
                [
                    (d.id, d.recording, d.site, d.features, d.metrics.get("fvu", math.nan))
                    for d in dictionaries
                ],
                "no dictionaries yet",
            ),
        )


class AsyncClient(
    AsyncRecordingsClient,
    AsyncWritingClient,
    AsyncFilesClient,
    AsyncUpkeepClient,
    AsyncDictionariesClient,
    AsyncUniversalityClient,
    AsyncJobsClient,
    AsyncServerClient,
):
    """A client whose methods are awaited. :func:`isogloss.connect_async` makes one.

    It works within one event loop. A process that was forked must connect again.
    """
