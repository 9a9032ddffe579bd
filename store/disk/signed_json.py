"""Small JSON files that carry a CRC-32C of their own content, so that damage is found."""

import json
import math
from collections.abc import Mapping, Sequence

from isogloss.errors import CorruptData, InvalidInput
from isogloss.store.disk.checksums import crc32c
from isogloss.store.schema.json_fields import SCHEMA_VERSION, check_version, is_mapping

KEY = "crc32c"
"""Field of the checksum: of the document without it, as JSON with sorted keys, no spaces."""


def checksum(document: Mapping[str, object]) -> str:
    """Return the checksum of a document, 8 hexadecimal digits.

    Args:
        document: the document to sign; its own checksum field is left out.

    Returns:
        The digits.

    Raises:
        InvalidInput: the document cannot be written as plain JSON.
    """
    rest = {name: value for name, value in document.items() if name != KEY}
    try:
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"attributes must be plain JSON: {error}") from error
    return f"{crc32c(text.encode()):08x}"


def encode(document: Mapping[str, object]) -> bytes:
    """Return a document as the bytes of a file."""
    return json.dumps({**document, KEY: checksum(document)}, indent=1).encode()


def decode(
    content: bytes, what: str, versions: Sequence[int] = (SCHEMA_VERSION,)
) -> Mapping[str, object]:
    """Read a document from the bytes that :func:`encode` returned, and check it.

    Args:
        content: the file's bytes.
        what: name of the file, as error messages show it.
        versions: the schema versions of such a document that this release reads.

    Returns:
        The document without its checksum.

    Raises:
        CorruptData: the bytes are no JSON, or do not match their checksum.
        UnsupportedVersion: the document's schema version is not one that this release reads.
    """
    document = parse(content, what)
    check_version(document, what, versions)
    if document.get(KEY) != checksum(document):
        raise CorruptData(f"{what} does not match its checksum: restore it from a copy")
    return {name: value for name, value in document.items() if name != KEY}


def parse(content: bytes, what: str) -> Mapping[str, object]:
    """Read a JSON object of finite numbers; CorruptData when the bytes are something else."""
    try:
        document: object = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{what} cannot be read: {error}") from error
    if not is_mapping(document):
        raise CorruptData(f"{what} is no JSON object")
    return document


def _finite(text: str) -> float:
    """Return the number that a JSON text writes; ValueError where a float does not hold it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
