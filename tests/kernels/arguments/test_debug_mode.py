"""When checks read what a tensor holds."""

import pytest
import torch

from isogloss.kernels.arguments.debug_mode import debugging, in_debug_mode, reads_content

ON_DEVICE = torch.empty(1, device="meta")
HERE = torch.empty(1)


def test_debug_mode_lasts_as_long_as_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOGLOSS_DEBUG", raising=False)
    assert not in_debug_mode()
    with debugging():
        assert in_debug_mode()
        with debugging():
            assert in_debug_mode()
        assert in_debug_mode()
    assert not in_debug_mode()
    with pytest.raises(ZeroDivisionError), debugging():
        raise ZeroDivisionError
    assert not in_debug_mode()


@pytest.mark.parametrize(("value", "is_on"), [("", False), ("0", False), ("1", True), ("2", True)])
def test_the_environment_sets_it_for_the_process(
    monkeypatch: pytest.MonkeyPatch, value: str, is_on: bool
) -> None:
    monkeypatch.setenv("ISOGLOSS_DEBUG", value)
    assert in_debug_mode() is is_on
    assert reads_content(ON_DEVICE) is is_on
    assert reads_content(HERE)


def test_content_on_the_cpu_is_always_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOGLOSS_DEBUG", raising=False)
    assert reads_content(HERE)
    assert not reads_content(ON_DEVICE)
    with debugging():
        assert reads_content(ON_DEVICE)
