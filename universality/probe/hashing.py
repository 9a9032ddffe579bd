"""Hashes that any model, shard or machine computes alike."""

import hashlib
from collections import Counter

import numpy as np
import xxhash
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers: the output function of splitmix64 (Steele et al., OOPSLA 2014).

    A bijection, so distinct values stay distinct.
    """
    mixed = np.atleast_1d(values) + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def segment_keys(
    document_keys: NDArray[np.uint64], document: NDArray[np.integer], end: NDArray[np.uint32]
) -> NDArray[np.uint64]:
    """Name each segment by its document and its end, so that every recording gives it one name.

    Args:
        document_keys: the first 16 bytes of each document's key, ``[documents, 2]``.
        document: index of each segment's document, ``[segments]``.
        end: where each segment ends (code points, or token position), ``[segments]``.

    Returns:
        ``[segments]``; different for different documents or ends, but for chance (2**-64 a pair).
    """
    folded = splitmix64(document_keys[:, 0] ^ splitmix64(document_keys[:, 1]))
    return splitmix64(folded[document] + _GOLDEN * end.astype(np.uint64))


def text_strata(texts: list[str], *, is_folded: bool = False) -> NDArray[np.int64]:
    """Hash texts, so that equal ones are one stratum.

    Args:
        texts: the words.
        is_folded: whether "The" and "the" are one.

    Returns:
        ``[texts]``.
    """
    known: dict[str, int] = {}
    for text in texts:
        if text not in known:
            form = text.casefold() if is_folded else text
            known[text] = xxhash.xxh3_64_intdigest(form.encode("utf-8", "surrogatepass"))
    return np.array([known[text] for text in texts], np.uint64).view(np.int64)


def token_strata(token_id: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Hash token ids, so that strata of both grids are of one kind."""
    return splitmix64(token_id.astype(np.uint64)).view(np.int64)


def halves(groups: list[bytes], seed: int) -> NDArray[np.int8]:
    """Send each group of documents to one half: 0 chooses pairs, 1 reports on them.

    The halves are balanced by construction. Groups are taken two by two in the order of a hash of
    their names; of each two, the one with more documents goes to the half that has fewer so far. So
    the halves differ by at most one group, and neither is empty where there are two.

    Args:
        groups: the group of each document.
        seed: changes the order.

    Returns:
        The half of each document.
    """
    prefix = f"isogloss half {seed} ".encode()
    documents = Counter(groups)
    order = sorted(documents, key=lambda group: (hashlib.sha256(prefix + group).digest(), group))
    half: dict[bytes, int] = {}
    counts = [0, 0]
    for start in range(0, len(order), 2):
        smaller = int(counts[1] < counts[0])
        two = sorted(order[start : start + 2], key=lambda group: -documents[group])
        for group, side in zip(two, (smaller, 1 - smaller), strict=False):
            half[group] = side
            counts[side] += documents[group]
    return np.array([half[group] for group in groups], np.int8)
