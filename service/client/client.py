"""The blocking and the asynchronous client, for a store in this process or behind a server.

Each call is defined once, in the module of its topic (recordings, writing, files, upkeep,
dictionaries, universality, jobs, server), beside the two classes that have it as a method.
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
    """A client whose methods block. :func:`isogloss.connect` makes one.

    Several threads may use it at once. A process that was forked must connect again.
    """


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
