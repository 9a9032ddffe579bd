"""Settings on their way to the process of the server."""

from math import nan
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.processes.config import Lives, ServerConfig, from_line, to_line
from isogloss.service.server.call_limits import CallLimits

CONFIG = ServerConfig(
    listen=("unix:/run/a b", "127.0.0.1:7"),
    token="a-token-of-some-length",
    certificate=Path("/c.pem"),
    key=Path("/k.pem"),
    reflection=False,
    drain_s=0.5,
    run_workers=False,
    group="lab",
    limits=IngestLimits(sessions=7, idle_lane_s=0.25),
    calls=CallLimits(streams=3, read_idle_s=0.5),
    jobs=JobLimits(workers=2),
)


@pytest.mark.parametrize("config", [ServerConfig(), CONFIG])
def test_settings_come_back_from_a_line_as_they_were(config: ServerConfig) -> None:
    lives = Lives(restarts=3, last_end="killed by SIGKILL")
    line = to_line(config, lives)
    assert line.count(b"\n") == 1
    assert from_line(line) == (config, lives)


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b"{}\n", b'{"config": {}, "lives": {}}\n'])
def test_other_lines_are_refused(line: bytes) -> None:
    with pytest.raises(InvalidInput, match="no settings of a server"):
        from_line(line)


@pytest.mark.parametrize("given", [{"drain_s": -1.0}, {"drain_s": nan}, {"query_threads": 0}])
def test_settings_that_would_let_nothing_through_are_refused(given: dict[str, float]) -> None:
    [name] = given
    with pytest.raises(InvalidInput, match=f"{name} is"):
        ServerConfig(**given)  # pyright: ignore[reportArgumentType] - each is of its field
