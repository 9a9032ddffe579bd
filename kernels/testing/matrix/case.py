"""One use of a Triton kernel, as the compile matrix compiles it."""

from dataclasses import dataclass

from isogloss.kernels.testing.compilation import JitFunction


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A kernel with the types and constants of one of its uses."""

    name: str
    """Name of the case in the report."""
    kernel: JitFunction
    """Under ``@triton.jit``."""
    arguments: dict[str, str]
    """Types of the run-time arguments."""
    constants: dict[str, int]
    """The ``tl.constexpr`` arguments."""
    warps: int
    """Warps of a program."""
    stages: int = 3
    """Stages of software pipelining."""
    wide: bool = False
    """Whether its hot loop must load 128 bits a thread."""
    most_registers: int | None = None
    """The launch option ``maxnreg``."""
    matrix: bool = False
    """Whether it must use matrix instructions."""
    even: bool = True
    """Whether width and strides are multiples of 16."""
    ones: tuple[str, ...] = ()
    """Integer arguments that are 1."""
    dots: bool = False
    """Whether its innermost loop multiplies matrices, and must load 128 bits only."""
