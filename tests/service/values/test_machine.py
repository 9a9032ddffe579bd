"""How much memory there is: of the machine, or what its container is held to."""

from pathlib import Path

import pytest

from isogloss.service.values import machine as memory


def test_a_limit_counts_where_it_is_lower_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "none", limit))
    there = memory.memory_bytes()
    assert there > 1 << 28
    meminfo = Path("/proc/meminfo").read_text().split()
    assert abs(there - int(meminfo[1]) * 1024) < 1 << 20
    for text, wanted in (("max\n", there), ("1073741824\n", 1 << 30), (f"{1 << 60}\n", there)):
        limit.write_text(text)
        assert memory.memory_bytes() == min(wanted, there)
