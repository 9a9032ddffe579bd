"""How a process proves to a store's owner that it sees the store's files.

The owner keeps a secret in a file of a fixed name that only the store's user can read. Who wants a
direct lane sends a keyed hash made with that secret (HMAC-SHA256, RFC 2104), never what the file
holds: a server that is not what it says gets nothing that it could use or read.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

PROOF_NAME = "direct.proof"
"""Name of the file in the store's root; no other name is ever opened."""

SECRET_CHARACTERS = 43
"""Length of the secret: 32 bytes in URL-safe base64 without padding."""

_SECRET = re.compile(rb"[A-Za-z0-9_-]{43}", re.ASCII)


def new_secret() -> bytes:
    """Return a secret of 32 random bytes, as the file holds it."""
    return secrets.token_urlsafe(32).encode()


def is_secret(found: bytes) -> bool:
    """Say whether bytes have the shape of a secret."""
    return _SECRET.fullmatch(found) is not None


def make_proof(secret: bytes, recording: str, producers: Sequence[str]) -> str:
    """Return the hash that proves knowledge of a secret, for one request only.

    Args:
        secret: what the file holds.
        recording: id of the recording that the lane is asked for.
        producers: names of the streams of batches that will write the lane.

    Returns:
        64 hexadecimal digits. They are of no use for another recording or other producers.
    """
    said = hashlib.sha256(b"isogloss direct lane")
    for text in (recording, *producers):
        part = text.encode(errors="surrogatepass")
        said.update(len(part).to_bytes(8, "little") + part)
    return hmac.new(secret, said.digest(), hashlib.sha256).hexdigest()
