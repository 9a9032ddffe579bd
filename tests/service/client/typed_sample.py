"""Types that a user of the clients sees; pyright checks this file, nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from isogloss import AsyncClient, Client
from isogloss.service import (
    Appender,
    AsyncAppender,
    AsyncJob,
    BatchStream,
    DictionaryInfo,
    Job,
    JobInfo,
    KindInfo,
    MatchInfo,
    RecordingInfo,
    ServerInfo,
    SiteRef,
    UpkeepProgress,
)
from isogloss.service.values.results import Hits
from isogloss.store import Problem, StepInfo, TokenColumns


def told(at: UpkeepProgress) -> None:
    assert_type(at.done, int)


def blocking(client: Client, rows: NDArray[np.float32]) -> None:
    assert_type(client.recording("a"), RecordingInfo)
    assert_type(client.recordings(), list[RecordingInfo])
    assert_type(client.delete_recording("a", "etag"), None)
    assert_type(client.vocabulary("a"), tuple[str, ...])
    assert_type(client.read("a", "s", 0, 3), NDArray[np.generic])
    assert_type(client.tokens("a", stop=3), TokenColumns)
    assert_type(client.known_documents("a", 7), dict[int, int])
    assert_type(client.steps("a"), tuple[StepInfo, ...])
    assert_type(client.verify("a", on_progress=told), list[Problem])
    assert_type(client.train("a", site="s", features=8), Job[DictionaryInfo])
    assert_type(client.train("a", site="s", features=8).result(), DictionaryInfo)
    also = [SiteRef(recording="a", site="t")]
    wide = client.train("a", site="s", features=8, settings={"l1": 0.5}, more_sources=also)
    assert_type(wide, Job[DictionaryInfo])
    assert_type(client.kinds(), list[KindInfo])
    assert_type(client.match("a", "b").result(3.0), MatchInfo)
    assert_type(client.encode("d", rows), tuple[NDArray[Any], NDArray[Any]])
    found = client.dictionary_info("d")
    assert_type(client.nearest(found.feature(3), [found], 5), Hits)
    assert_type(client.watch("j"), Iterator[JobInfo])
    assert_type(client.appender("a", "p"), Appender)
    assert_type(client.stream("a", "p", direct="auto"), BatchStream)
    assert_type(client.export("a", Path("x"), form="numpy"), None)
    assert_type(client.server_info(), ServerInfo)
    # Each is a mistake; the ignore says that the checker sees it, and is refused where it does not.
    client.recording()  # pyright: ignore[reportCallIssue]
    client.recording(3)  # pyright: ignore[reportArgumentType]
    client.train("a", site="s")  # pyright: ignore[reportCallIssue]
    client.train("a", site="s", features=8, colour=3)  # pyright: ignore[reportCallIssue]
    client.export("a", Path("x"), form="parquet")  # pyright: ignore[reportArgumentType]
    client.verify("a", on_progress=len)  # pyright: ignore[reportArgumentType]


async def awaited(client: AsyncClient) -> None:
    assert_type(await client.recording("a"), RecordingInfo)
    assert_type(await client.train("a", site="s", features=8), AsyncJob[DictionaryInfo])
    assert_type(await (await client.match("a", "b")).result(), MatchInfo)
    assert_type(await client.verify("a", on_progress=told), list[Problem])
    assert_type(client.watch("j"), AsyncIterator[JobInfo])
    assert_type(await client.appender("a", "p"), AsyncAppender)
    assert_type(await client.stream("a", "p", direct=True), AsyncAppender)
    assert_type(await client.export("a", Path("x")), None)
    assert_type(await client.server_info(), ServerInfo)
    await client.train("a", features=8)  # pyright: ignore[reportCallIssue]
    await client.appender("a", 3)  # pyright: ignore[reportArgumentType]
