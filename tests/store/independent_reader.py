"""Reads a recording with numpy and a checksum only, written from docs/store-format.md."""
# raw JSON, on purpose without the room's typed helpers, hence:
# pyright: basic

import json
import struct
from pathlib import Path

import google_crc32c
import ml_dtypes
import numpy as np

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


def signed(path: Path) -> dict:
    document = json.loads(path.read_bytes())
    crc = document.pop("crc32c")
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert crc == f"{google_crc32c.value(text):08x}"
    assert document["schema_version"] == 1
    return document


def frames(log: bytes) -> list[tuple[dict, bytes]]:
    found, at, first_epoch = [], 0, None
    while len(log) - at >= 32:
        magic, version, kind, epoch, number, size, crc = struct.unpack_from("<4sHHQQII", log, at)
        payload = log[at + 32 : at + 32 + size]
        first_epoch = epoch if first_epoch is None else first_epoch
        is_next = (version, kind, epoch, number) == (1, min(number, 1) + 1, first_epoch, len(found))
        right = google_crc32c.value(log[at : at + 28] + payload) == crc
        if magic != b"ISOF" or not is_next or len(payload) < size or not right:
            break
        (length,) = struct.unpack_from("<Q", payload)
        found.append((json.loads(payload[8 : 8 + length]), payload[8 + length + -length % 8 :]))
        at += 32 + size
    return found


def read_recording(directory: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict]:
    """Return activations by site, token columns by name, documents by id."""
    spec = signed(directory / "recording.json")["spec"]
    sites: dict[str, list] = {site["name"]: [] for site in spec["sites"]}
    columns: dict[str, list] = {"token_id": [], "document": [], "position": [], "span": []}
    documents: dict[int, str | None] = {}
    lanes = sorted(lane for lane in (directory / "lanes").iterdir() if lane.name[0] != ".")
    seals = {lane: signed(lane / "seal.json") for lane in lanes if (lane / "seal.json").exists()}
    joined = {name for seal in seals.values() for name, *_ in seal.get("parts", [])}
    for lane in [lane for lane in lanes if lane.name not in joined]:
        _, *commits = frames((lane / "commit.log").read_bytes())
        commits = commits[: seals[lane]["frames"] - 1] if lane in seals else commits
        for commit, rest in commits:
            for name, dtype in zip(columns, ("<u4", "<u8", "<u4", "<u4"), strict=True):
                count = commit["rows"] * (1 if name != "span" else 2 * commit["has_spans"])
                columns[name].append(np.frombuffer(rest, dtype, count))
                rest = rest[-(-columns[name][-1].nbytes // 8) * 8 :]
            for key, _, length in commit["documents"]:
                documents[int(key[:16], 16)] = None if length < 0 else rest[:length].decode()
                rest = rest[max(length, 0) :]
            for index, shard, offset, length, crc in commit["ranges"]:
                content = (lane / f"site-{index}" / "c" / str(shard) / "0").read_bytes()
                rows = content[offset : offset + length]
                assert google_crc32c.value(rows) == crc
                site = spec["sites"][index]
                values = np.frombuffer(rows, DTYPES[site["dtype"]]).reshape(-1, site["width"])
                sites[site["name"]].append(values)
    tokens = {name: np.concatenate(parts) for name, parts in columns.items()}
    return {name: np.concatenate(parts) for name, parts in sites.items()}, tokens, documents
