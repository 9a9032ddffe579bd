"""The forms of resource ids, uids and lane names."""

import re
import unicodedata

from isogloss.errors import InvalidInput, InvalidName

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_UID = re.compile(r"[0-9a-f]{16,64}")
_LANE = re.compile(r"[0-9]{8}\.[0-9a-f]{16}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_id(name: str) -> str:
    """Return ``name`` unchanged if it can be the id of a resource, such as a recording.

    Args:
        name: any text.

    Returns:
        ``name``.

    Raises:
        InvalidName: the name is not of the form ``[a-z][a-z0-9-]{0,62}``.
    """
    if not _ID.fullmatch(name):
        raise InvalidName(
            f"id {name!r} is not of the form [a-z][a-z0-9-]{{0,62}}: use lower-case letters, "
            f"digits and hyphens, starting with a letter, such as {suggested_id(name)!r}"
        )
    return name


def suggested_id(name: str) -> str:
    """Return an id that reads like ``name``; the same for names that differ in little."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return (found if found[:1].isalpha() else f"x-{found}")[:63].rstrip("-")


def check_uid(uid: str) -> str:
    """Return ``uid`` unchanged if it has the form of a uid.

    Args:
        uid: any text.

    Returns:
        ``uid``.

    Raises:
        InvalidName: the uid is not 16 to 64 lower-case hexadecimal digits.
    """
    if not _UID.fullmatch(uid):
        raise InvalidName(
            f"uid {uid!r} is not 16 to 64 lower-case hexadecimal digits: use Catalog.new_uid()"
        )
    return uid


def check_lane_name(name: str) -> str:
    """Return ``name`` unchanged if it has the form of a lane's name.

    Args:
        name: any text.

    Returns:
        ``name``.

    Raises:
        InvalidName: the name is not eight digits, a dot and 16 lower-case hexadecimal digits.
    """
    if not _LANE.fullmatch(name):
        raise InvalidName(
            f"lane {name!r} is not eight digits, a dot and 16 hexadecimal digits: take its name "
            "from the recording's lanes"
        )
    return name


def check_text(text: str, what: str) -> str:
    """Return ``text`` unchanged if UTF-8, and so the wire and every reader, can hold it.

    Args:
        text: any text.
        what: what it is, for the error.

    Returns:
        ``text``.

    Raises:
        InvalidInput: the text has a lone surrogate, as the name of a file that is no UTF-8 has.
    """
    found = _SURROGATE.search(text)
    if found:
        raise InvalidInput(
            f"{what} {text[:80]!r} has a lone surrogate at {found.start()}, which UTF-8 cannot "
            "hold: replace it; of a file's name take os.fsencode(name).decode(errors='replace')"
        )
    return text


def readable_text(text: str) -> str:
    """Return ``text`` with U+FFFD in place of each lone surrogate.

    Stores of earlier releases took such texts; UTF-8 cannot hold them.
    """
    return _SURROGATE.sub("\ufffd", text)
