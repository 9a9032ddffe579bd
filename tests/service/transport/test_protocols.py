"""What every transport checks of a call."""

import pytest

from isogloss.errors import DeadlineExceeded
from isogloss.service.transport.protocols import check_deadline


def test_a_call_needs_time() -> None:
    assert check_deadline(1e-9) == 1e-9
    assert check_deadline(30.0) == 30.0
    for timeout_s in (0.0, -0.5):
        with pytest.raises(DeadlineExceeded, match=f"timeout_s is {timeout_s:g}, so no time"):
            check_deadline(timeout_s)
