"""Reads a recording of a store without locks, written from docs/store-format.md alone."""
# pyright: basic

import json
import struct
from pathlib import Path

import google_crc32c
import numpy as np


def record(path: Path, kind: int, number: int) -> tuple[dict, bytes]:
    """Return the JSON text and the arrays of the one frame of a file."""
    content = path.read_bytes()
    magic, version, kind_found, _, found, size, crc = struct.unpack_from("<4sHHQQII", content)
    assert (magic, version, kind_found, found) == (b"ISOF", 1, kind, number)
    assert google_crc32c.value(content[:28] + content[32:]) == crc
    assert len(content) == 32 + size
    (length,) = struct.unpack_from("<Q", content, 32)
    return json.loads(content[40 : 40 + length]), content[40 + length + -length % 8 :]


def counting_lanes(directory: Path) -> list[tuple[str, bool]]:
    """Return the lanes that count, sorted, and whether each stands in ``lanes``."""
    births = sorted((directory / "births").iterdir())
    born = {
        record(path, 1, 0)[0]["lane"]: path.with_name(f"{path.name}.settled") in births
        for path in births
        if path.name.isdigit()
    }
    joins = [
        record(path, 4, number)[0]
        for number, path in enumerate(sorted((directory / "joins").iterdir()), 1)
    ]
    gone = {name for join in joins for name in join["joined"]}
    made = {join["lane"]: True for join in joins if join["lane"]}
    return sorted((name, there) for name, there in {**born, **made}.items() if name not in gone)


def frames(log: bytes) -> list[tuple[dict, bytes]]:
    found, at = [], 0
    while at < len(log):
        (size,) = struct.unpack_from("<I", log, at + 24)
        (length,) = struct.unpack_from("<Q", log, at + 32)
        start = at + 40 + length + -length % 8
        found.append((json.loads(log[at + 40 : at + 40 + length]), log[start : at + 32 + size]))
        at += 32 + size
    return found[1:]


def read_fenced(directory: Path) -> tuple[list[bytes], np.ndarray]:
    """Return the rows of each site as bytes, and the token ids."""
    spec = json.loads((directory / "recording.json").read_bytes())["spec"]
    sites = [b""] * len(spec["sites"])
    tokens = []
    for name, there in counting_lanes(directory):
        lane, commits = directory / "lanes" / name, []
        if there:
            commits = frames((lane / "commit.log").read_bytes())
        else:
            paths = sorted((directory / "commits" / name).iterdir())
            kinds = [struct.unpack_from("<H", path.read_bytes(), 6)[0] for path in paths]
            stop = kinds.index(3) if 3 in kinds else len(kinds)
            commits = [record(path, 2, s) for s, path in enumerate(paths[:stop], 1)]
        for commit, rest in commits:
            tokens.append(np.frombuffer(rest, "<u4", commit["rows"]))
            for site, shard, offset, length, crc in commit["ranges"]:
                path = lane / f"site-{site}" / "c" / f"{shard}" / "0"
                if not there:
                    path = directory / "groups" / name / f"{site}.{shard:012d}"
                rows = path.read_bytes()[offset : offset + length]
                assert google_crc32c.value(rows) == crc
                sites[site] += rows
    return sites, np.concatenate(tokens)
