"""Which documents a recorder keeps: a keyed hash of a document's id decides, and nothing else.

A document is kept where its sample position is below the share in force. A share is only ever
halved. So the documents below the last share are a sample of all that came, whatever the load was;
and those that a larger share kept are a sample of those that came while it was in force.

A share that was lowered stands in the store in the name of the producer that the rows come from
then on, ``rank-0 share=0.25 from=00c0ffee00c0ffee``: ``client.lanes(recording)`` shows the
producers of each lane, and :func:`rate_of` reads the name.
"""

import hashlib
import re

from isogloss.errors import InvalidInput
from isogloss.service.recording.options import SampleRate

_KEY = b"isogloss document sample"
_MAX_PRODUCER = 256  # characters of a producer's name, as the store takes it
_NAME = re.compile(r" share=(?P<share>[0-9.e+-]+) from=(?P<first>[0-9a-f]{16})$")


def sample_position(document: int) -> float:
    """Return a number in ``[0, 1)`` that depends on nothing but a document's id.

    It has nothing to do with :attr:`Document.split_position`, so that each side of a split is
    sampled alike.
    """
    digest = hashlib.blake2b(document.to_bytes(8, "big"), digest_size=8, key=_KEY).digest()
    return (int.from_bytes(digest, "big") >> 11) / float(1 << 53)


def check_producer(producer: str) -> str:
    """Return a producer's name that the store takes.

    Raises:
        InvalidInput: it is empty or too long.
    """
    if not 1 <= len(producer) <= _MAX_PRODUCER:
        raise InvalidInput(
            f"producer has {len(producer)} characters, wanted 1 to {_MAX_PRODUCER}: give a shorter "
            "name"
        )
    return producer


def producer_of(producer: str, rate: SampleRate) -> str:
    """Return the name under which a producer sends rows while a share is in force.

    Of a name that leaves no room for the share, the end is replaced by a hash of the whole.
    """
    if rate.first_document is None:
        return producer
    share = f" share={rate.share!r} from={rate.first_document:016x}"
    room = _MAX_PRODUCER - len(share)
    if len(producer) > room:
        name = producer.encode(errors="surrogatepass")
        digest = hashlib.blake2b(name, digest_size=8).hexdigest()
        producer = f"{producer[: room - len(digest) - 1]}~{digest}"
    return producer + share


def rate_of(producer: str) -> SampleRate | None:
    """Return the lowered share in a producer's name; None where none was lowered."""
    found = _NAME.search(producer)
    if found is None:
        return None
    return SampleRate(share=float(found["share"]), first_document=int(found["first"], 16))
