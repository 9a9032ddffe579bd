"""Reads a recording with numpy, raw JSON and a checksum only, written from docs/store-format.md."""
# pyright: basic

import json
import struct
from pathlib import Path

import google_crc32c
import ml_dtypes  # noqa: F401 - numpy knows bfloat16 by it
import numpy as np


def signed(path: Path) -> dict:
    document = json.loads(path.read_bytes())
    rest = {name: value for name, value in document.items() if name != "crc32c"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    assert document["crc32c"] == f"{google_crc32c.value(text):08x}"
    assert document["schema_version"] in ((1, 2) if path.name == "recording.json" else (1,))
    return document


def frames(log: bytes) -> list[tuple[dict, bytes]]:
    found, at, life = [], 0, log[8:16]
    while len(log) - at >= 32:
        size, crc = struct.unpack_from("<II", log, at + 24)
        payload = log[at + 32 : at + 32 + size]
        head = struct.pack("<4sHH8sQ", b"ISOF", 1, min(len(found), 1) + 1, life, len(found))
        if log[at : at + 24] != head or google_crc32c.value(log[at : at + 28] + payload) != crc:
            break
        (length,) = struct.unpack_from("<Q", payload)
        found.append((json.loads(payload[8 : 8 + length]), payload[8 + length + -length % 8 :]))
        at += 32 + size
    return found


def rows_of(lane: Path, site: int, shard: int, at: int, size: int, crc: int) -> bytes | None:
    rows = (lane / f"site-{site}" / "c" / str(shard) / "0").read_bytes()[at : at + size]
    return rows if google_crc32c.value(rows) == crc else None


def read_recording(directory: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict]:
    """Return activations by site, token columns by name, documents by id."""
    spec = signed(directory / "recording.json")["spec"]
    sites: dict[str, list] = {site["name"]: [] for site in spec["sites"]}
    columns: dict[str, list] = {n: [] for n in ("step", "token_id", "document", "position", "span")}
    documents: dict[int, str | None] = {}
    lanes = sorted(lane for lane in (directory / "lanes").iterdir() if lane.name[0] != ".")
    seals = {lane: signed(lane / "seal.json") for lane in lanes if (lane / "seal.json").exists()}
    joined = {name for seal in seals.values() for name, *_ in seal.get("parts", [])}
    for lane in [lane for lane in lanes if lane.name not in joined]:
        _, *commits = frames((lane / "commit.log").read_bytes())
        for commit, rest in commits[: seals[lane]["frames"] - 1 if lane in seals else None]:
            rows = [rows_of(lane, *written) for written in commit["ranges"]]
            if None in rows:  # never acknowledged
                assert (lane in seals, commit) == (False, commits[-1][0])
                break
            runs = commit.get("steps", [[0, commit["rows"]]])
            columns["step"] += [np.full(count, step, np.uint64) for step, count in runs]
            for name, dtype in zip(list(columns)[1:], ("<u4", "<u8", "<u4", "<u4"), strict=True):
                count = commit["rows"] * (1 if name != "span" else 2 * commit["has_spans"])
                columns[name].append(np.frombuffer(rest, dtype, count))
                rest = rest[-(-columns[name][-1].nbytes // 8) * 8 :]
            for key, _, length in commit["documents"]:
                documents[int(key[:16], 16)] = None if length < 0 else rest[:length].decode()
                rest = rest[max(length, 0) :]
            for (index, *_), content in zip(commit["ranges"], rows, strict=True):
                site = spec["sites"][index]
                sites[site["name"]].append(np.frombuffer(content or b"", site["dtype"]))
    width = {site["name"]: site["width"] for site in spec["sites"]}
    read = {name: np.concatenate(rows).reshape(-1, width[name]) for name, rows in sites.items()}
    return read, {name: np.concatenate(parts) for name, parts in columns.items()}, documents
