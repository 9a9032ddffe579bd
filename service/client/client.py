"""The two clients: one API over a store in this process and over a server, blocking and awaited.

What a client can do is defined once a topic, each call in a function beside the two classes that
offer it: recordings, writing, files, upkeep, dictionaries, universality, jobs, server.
"""

from isogloss.service.client.dictionaries import AsyncDictionariesClient, DictionariesClient
from isogloss.service.client.files import AsyncFilesClient, FilesClient
from isogloss.service.client.jobs import AsyncJobsClient, JobsClient
from isogloss.service.client.recordings import AsyncRecordingsClient, RecordingsClient
from isogloss.service.client.server import AsyncServerClient, ServerClient
from isogloss.service.client.universality import AsyncUniversalityClient, UniversalityClient
from isogloss.service.client.upkeep import AsyncUpkeepClient, UpkeepClient
from isogloss.service.client.writing import AsyncWritingClient, WritingClient


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
    """Everything that can be done with a store. Safe from several threads, not across fork."""


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
    """Everything that can be done with a store, within one event loop. Not across fork."""
