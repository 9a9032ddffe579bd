# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter and compiler are untyped, and replaced in place)
"""Compile Triton kernels ahead of time for GPUs that are not here, and read what came out.

Runs only where triton was imported without ``TRITON_INTERPRET`` (the variable is read at ``@jit``).
NVIDIA: registers and local memory from ``cuobjdump``, instructions from ``nvdisasm``, both in
triton's wheel. AMD: the assembly names its own resources. What was read is kept beside Triton's own
cache, under a hash of the kernel's source (of what it calls, too), its types and constants, the
target and the versions: compiling the same again takes no time.
"""

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from isogloss.errors import InvalidInput

TARGETS = {
    "sm80": GPUTarget("cuda", 80, 32),
    "sm89": GPUTarget("cuda", 89, 32),
    "sm90": GPUTarget("cuda", 90, 32),
    "sm100": GPUTarget("cuda", 100, 32),
    "sm120": GPUTarget("cuda", 120, 32),
    "gfx90a": GPUTarget("hip", "gfx90a", 64),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
"""Ampere, Ada, Hopper, Blackwell (data centre, desktop), MI200, MI300."""

SHARED_BYTES = {
    "sm80": 163 << 10,
    "sm89": 99 << 10,
    "sm90": 227 << 10,
    "sm100": 227 << 10,
    "sm120": 99 << 10,
    "gfx90a": 64 << 10,
    "gfx942": 64 << 10,
}
"""Shared memory that one program may use."""

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class JitFunction(Protocol):
    """A function under ``@triton.jit``."""

    __name__: str
    arg_names: list[str]

    @property
    def cache_key(self) -> str:
        """Hash of its source, and of what it calls."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """Resources that a kernel takes on one target, read from the compiler's output."""

    target: str
    """Name in ``TARGETS``."""
    registers: int
    """Registers of a thread."""
    spills: int
    """Instructions that move registers to or from local (scratch) memory."""
    local_bytes: int
    """Local (scratch) memory of a thread."""
    shared_bytes: int
    """Shared memory (LDS) of a program."""
    matrix_instructions: int
    """Tensor-core (matrix-core) instructions."""
    matrix_kinds: tuple[str, ...]
    """Kinds of those without the extents that give no sum another order: rows and columns."""
    float_atomics: int
    """Atomic additions of floats to global memory."""
    wide_loads: int
    """Global loads of 128 bits or more a thread, asynchronous copies included."""
    loads: int
    """All global loads."""
    narrow_dot_loads: int
    """Global loads under 128 bits within the innermost loops that multiply matrices."""
    divisions: int
    """Divisions of 64-bit integers, each a call of a subroutine; 0 on AMD, which has none."""
    late_loads: int
    """Global loads after the innermost loop that multiplies matrices, within the loop around it:
    all warps wait for them. 0 on AMD."""
    instructions: int
    """Instructions of a warp, each counted once; 0 on AMD."""
    loops: tuple[tuple[int, int, bool], ...]
    """First and last instruction of each loop, and whether it multiplies matrices; none on AMD."""


def compile_kernel(
    kernel: JitFunction,
    arguments: Mapping[str, str],
    constants: Mapping[str, int],
    target: str,
    *,
    aligned: tuple[str, ...] = (),
    ones: tuple[str, ...] = (),
    warps: int = 4,
    stages: int = 2,
    most_registers: int | None = None,
) -> Compiled:
    """Compile ``kernel`` for ``target``.

    Args:
        kernel: under ``@triton.jit``.
        arguments: type of each run-time argument, such as ``*fp32`` or ``i32``.
        constants: the ``tl.constexpr`` arguments.
        target: name in ``TARGETS``.
        aligned: arguments that are multiples of 16, as Triton would find at run time.
        ones: integer arguments that are 1, which Triton would make constants at run time.
        warps: warps of a program.
        stages: stages of software pipelining.
        most_registers: the launch option ``maxnreg``; NVIDIA only.

    Returns:
        What the compiler made: registers, spills, memory, instructions.

    Raises:
        InvalidInput: unknown target, names that are not the kernel's, or triton was imported with
            ``TRITON_INTERPRET=1``.
    """
    if target not in TARGETS:
        raise InvalidInput(f"target is {target!r}; one of {', '.join(TARGETS)} is wanted")
    if triton.knobs.runtime.interpret:
        raise InvalidInput("triton interprets; compile in a process without TRITON_INTERPRET")
    names, given = list(kernel.arg_names), {**arguments, **dict.fromkeys(constants, "constexpr")}
    if set(names) != set(given):
        raise InvalidInput(
            f"{kernel.__name__} takes {names}; arguments and constants name {[*given]}"
        )
    options = {"num_warps": warps, "num_stages": stages}
    if most_registers is not None and target.startswith("sm"):
        options["maxnreg"] = most_registers
    fixed = {**constants, **dict.fromkeys(ones, 1)}
    kept = _kept_at(
        triton.__version__,
        *(triton.knobs.language.default_fp_fusion, Path(__file__).read_text(), kernel.cache_key),
        *(given, fixed, aligned, options, TARGETS[target]),
    )
    if kept.exists():
        found = json.loads(kept.read_text())
        found["matrix_kinds"] = tuple(found["matrix_kinds"])
        found["loops"] = tuple((first, last, bool(dots)) for first, last, dots in found["loops"])
        return Compiled(**found)
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in fixed else given[name] for name in names},
        constexprs={(names.index(name),): value for name, value in fixed.items()},
        attrs={
            (names.index(name),): [["tt.divisibility", 16]] for name in aligned if name not in fixed
        },
    )
    made = triton.compile(source, target=TARGETS[target], options=options)
    shared = int(made.metadata.shared)
    if target.startswith("sm"):
        read = _read_cubin(made.asm["cubin"], target, shared)
    else:
        read = _read_amdgcn(str(made.asm["amdgcn"]), target, shared)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(asdict(read)))
    partial.replace(kept)
    return read


def _kept_at(*parts: object) -> Path:
    """The file that keeps what was read of a compilation."""
    key = hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()
    return Path(triton.knobs.cache.dir) / "isogloss-matrix" / f"{key}.json"


def _read_cubin(cubin: bytes, target: str, shared: int) -> Compiled:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run("cuobjdump", "-res-usage", file.name)
        listing = _run("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    if found is None:
        raise InvalidInput(f"cuobjdump does not tell the registers: {usage[:90]!r}")
    lines = re.findall(
        r"^(\.L\w+):|^\s*(?:/\*[0-9a-f]+\*/)?\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)([^;]*);",
        listing,
        re.MULTILINE,
    )
    operations = [operation for _, operation, _ in lines if operation]
    kinds = Counter(operation.split(".")[0] for operation in operations)
    loads = [o for o in operations if re.match(r"(LDG|LDGSTS|UTMALDG|UBLKCP)\b", o)]
    matrix = [o for o in operations if o.split(".")[0].endswith("MMA")]
    dots = r"\w*MMA\b" if matrix else r"FFMA2?\b"
    return Compiled(
        target=target,
        registers=int(found[1]),
        spills=kinds["LDL"] + kinds["STL"],
        local_bytes=int(found[4]) + int(found[2]),
        shared_bytes=shared,
        matrix_instructions=len(matrix),
        matrix_kinds=tuple(sorted({re.sub(r"x\d+x(\d+)", r"xNx\1", o) for o in matrix})),
        float_atomics=sum(
            1
            for operation in operations
            if re.match(r"(ATOM|ATOMG|RED|REDG)\b", operation)
            and re.search(r"\.(F16|F32|F64|BF16)", operation)
        ),
        wide_loads=sum(1 for load in loads if ".128" in load or load.startswith("UTMALDG")),
        loads=len(loads),
        narrow_dot_loads=_narrow(lines, dots, r"(LDG|LDGSTS)\b(?!.*\.128)", r"BRA\b", r"(\.L\w+)"),
        divisions=sum(
            operation.startswith("CALL") and bool(re.search(r"(div|rem)_[su]64", rest))
            for _, operation, rest in lines
        ),
        late_loads=_late(operations, _loops(lines, dots)),
        instructions=len(operations),
        loops=_loops(lines, dots),
    )


def _read_amdgcn(listing: str, target: str, shared: int) -> Compiled:
    def number(key: str) -> int:
        found = re.search(rf"\.{key}:\s+(\d+)", listing)
        if found is None:
            raise InvalidInput(f"the assembly does not name {key}")
        return int(found[1])

    def count(pattern: str) -> int:
        return len(re.findall(pattern, listing, re.MULTILINE))

    matrix = re.findall(r"^\s+v_((?:smfmac|mfma)\w+)", listing, re.MULTILINE)
    lines = re.findall(r"^(\.L\w+):|^\s+([a-z]\w+)([^\n]*)$", listing, re.MULTILINE)
    narrow = r"(global|buffer)_load_(?!dwordx4|b128)"
    return Compiled(
        target=target,
        registers=number("vgpr_count"),
        spills=number("vgpr_spill_count"),
        local_bytes=number("private_segment_fixed_size"),
        shared_bytes=shared,
        matrix_instructions=len(matrix),
        matrix_kinds=tuple(sorted(set(matrix))),
        float_atomics=count(r"^\s+(global|buffer|flat)_atomic_\w*add_\w*f\d+"),
        wide_loads=count(r"^\s+(global|buffer)_load_(dwordx4|b128)"),
        loads=count(r"^\s+(global|buffer)_load_"),
        narrow_dot_loads=_narrow(lines, r"v_(smfmac|mfma)", narrow, r"s_c?branch", r"(\.L\w+)"),
        divisions=0,
        late_loads=0,
        instructions=0,
        loops=(),
    )


def _loops(lines: list[tuple[str, str, str]], dots: str) -> tuple[tuple[int, int, bool], ...]:
    """Where the loops of an NVIDIA listing begin and end, counted in instructions."""
    places: dict[str, int] = {}
    operations: list[tuple[str, str]] = []
    for label, operation, rest in lines:
        if label:
            places[label] = len(operations)
        else:
            operations.append((operation, rest))
    found: list[tuple[int, int, bool]] = []
    for last, (operation, rest) in enumerate(operations):
        target = re.search(r"(\.L\w+)", rest) if operation.startswith("BRA") else None
        first = places.get(target[1], last) if target else last
        if first < last - 2:  # a program ends in a branch to itself
            inside = (each for each, _ in operations[first:last])
            found.append((first, last, any(re.match(dots, each) for each in inside)))
    return tuple(found)


def _late(operations: list[str], loops: tuple[tuple[int, int, bool], ...]) -> int:
    """Count the global loads of a loop that follow the loop within it that multiplies matrices."""
    dots = [(first, last) for first, last, has_dots in loops if has_dots]
    found = set[int]()
    for first, last in dots:
        for begin, end in dots:
            if begin <= first and last < end:
                found |= {n for n in range(last + 1, end) if re.match(r"LDG\b", operations[n])}
    return len(found)


def _narrow(
    lines: list[tuple[str, str, str]], dots: str, narrow: str, jump: str, label: str
) -> int:
    """Count the loads that are too narrow, in innermost loops with multiplications.

    Args:
        lines: label, operation and operands of each line; a label stands alone.
        dots: operation that multiplies matrices.
        narrow: operation of a load that is too narrow.
        jump: operation of a branch.
        label: pattern of the branch's target in its operands.

    Returns:
        The number of such loads.
    """
    places = {name: n for n, (name, _, _) in enumerate(lines) if name}
    loops: list[tuple[int, int]] = []
    for n, (_, operation, rest) in enumerate(lines):
        found = re.search(label, rest) if re.match(jump, operation) else None
        start = places.get(found[1], n) if found else n
        if start < n:
            loops.append((start, n))
    counted = [
        (first, last, [operation for _, operation, _ in lines[first:last]]) for first, last in loops
    ]
    hot = [
        (first, last, inside)
        for first, last, inside in counted
        if any(re.match(dots, operation) for operation in inside)
    ]
    innermost = [
        inside
        for first, last, inside in hot
        if not any(
            first <= one and other <= last for one, other, _ in hot if (one, other) != (first, last)
        )
    ]
    return sum(bool(re.match(narrow, operation)) for inside in innermost for operation in inside)


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(_TOOLS / tool), *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout
