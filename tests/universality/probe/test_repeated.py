"""Text that several sources have is counted, whatever else stands around it."""

import numpy as np

from isogloss.universality.probe.repeated import RUN, repeated_share


def text(documents: int = 20, length: int = 50) -> tuple[np.ndarray, np.ndarray]:
    token = np.random.default_rng(0).integers(-(2**62), 2**62, documents * length)
    return token, np.repeat(np.arange(documents), length)


def test_text_of_one_source_alone_is_not_repeated() -> None:
    token, document = text()
    assert repeated_share(token, document, document) == 0
    token[50:100] = token[:50]  # a copy, of the same source
    assert repeated_share(token, document, document // 2) == 0


def test_a_copy_in_another_source_counts_there_and_where_it_came_from() -> None:
    token, document = text()
    token[310:340] = token[15:45]  # thirty segments, in other surroundings
    assert repeated_share(token, document, document) == 60 / 1000


def test_a_run_that_is_one_too_short_or_crosses_documents_is_not_counted() -> None:
    token, document = text()
    token[300 : 300 + RUN - 1] = token[: RUN - 1]
    assert repeated_share(token, document, document) == 0
    token, document = text()
    token[340:360] = token[40:60]  # ten segments on either side of an end
    assert repeated_share(token, document, document) == 0


def test_short_texts_and_none_have_no_run() -> None:
    token, document = np.zeros(40, np.int64), np.arange(40) // 10
    assert repeated_share(token, document, document) == 0
    assert repeated_share(token[:3], document[:3], document[:3]) == 0
    assert repeated_share(token[:0], document[:0], document[:0]) == 0


def test_the_same_tokens_in_another_order_are_another_text() -> None:
    token, document = text()
    token[300:350] = token[:50][::-1]
    assert repeated_share(token, document, document) == 0
