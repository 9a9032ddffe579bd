"""Figures of the lane, from the records of its sections."""

from collections.abc import Mapping, Sequence

from house_figures.figure import Figure

_Record = Mapping[str, object]
_DEVICE = ("device_wrong", "device_encode", "device_vs_eager", "device_step")
NO_DEVICE = "no device: torch sees neither CUDA nor ROCm here"


def figures(
    records: Sequence[_Record], ends: Mapping[str, str], *, is_dry: bool
) -> list[dict[str, object]]:
    """Sum up.

    Args:
        records: of all sections.
        ends: how each ended.
        is_dry: whether there was no device.

    Returns:
        The figures as they are printed; those without a device have no value and say why.
    """
    checks = [record for record in records if "holds" in record]
    wrong = [f"{each['section']}: {each['name']}" for each in checks if not each["holds"]]
    wrong += [f"{name}: {end}" for name, end in ends.items() if end != "done"]
    named: dict[str, object] = {"wrong": wrong[:20]} if wrong else {}
    if is_dry:
        none: dict[str, object] = {"reason": NO_DEVICE}
        return [
            Figure(
                figure="device_dry", value=len(checks), bar=1000, unit="checks", at_most=False
            ).to_dict(),
            Figure(
                figure="device_dry_wrong", value=len(wrong), bar=0, unit="checks", peers=named
            ).to_dict(),
            *(_reported(name, None, none) for name in _DEVICE),
        ]
    times = {str(each["name"]): each.get("ms") for each in records}
    vs_eager = {
        rows: _ratio(times, f"bf16 {rows} rows encode_topk", f"bf16 {rows} rows eager")
        for rows in (32, 512, 4096)
    }
    worst = None if None in vs_eager.values() else max(each for each in vs_eager.values() if each)
    peers: dict[str, object] = {str(rows): ratio for rows, ratio in vs_eager.items()}
    encode = _ratio(times, "bf16 4096 rows encode_topk", "bf16 4096 rows addmm")
    step = _ratio(times, "step train_step_topk", "step eager")
    count: dict[str, object] = {"checks": len(checks), **named}
    found = Figure(figure="device_wrong", value=len(wrong), bar=0, unit="checks", peers=count)
    return [
        found.to_dict(),
        _reported("device_encode", encode, {"of": "addmm, 4096 x 768 -> 24576, bf16"}),
        _reported("device_vs_eager", worst, peers),
        _reported("device_step", step, {"of": "an eager step, fp32"}),
    ]


def _ratio(times: Mapping[str, object], ours: str, theirs: str) -> float | None:
    one, two = times.get(ours), times.get(theirs)
    return one / two if isinstance(one, float) and isinstance(two, float) else None


def _reported(name: str, value: float | None, peers: dict[str, object]) -> dict[str, object]:
    """A figure without a bar; without a value it says why."""
    if value is None and "reason" not in peers:
        peers = {**peers, "reason": "a section that it needs did not end; see [device_wrong]"}
    return {
        "figure": name,
        "value": value,
        "bar": None,
        "sign": "",
        "holds": None,
        "unit": "ratio",
        "peers": peers,
        "runs": 1,
    }
