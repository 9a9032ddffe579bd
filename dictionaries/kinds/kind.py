"""The base class of all kinds of dictionary; every file beside this one has a subclass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float, Float32
from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries.settings import Settings
from isogloss.kernels import Codes, EncoderScreen, RowShare, StepResult, Workspace
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InitialWeights:
    """The weights with which a run starts: random unit directions, and the means of its rows."""

    encoder: Float32[Tensor, "features width"]
    """Directions to read; the decoder's where the dictionary writes to the columns it reads."""
    decoder: Float32[Tensor, "features target_width"]
    """Directions to write, of norm 1; 0 outside the columns of a feature that has some only."""
    mean: Float[Tensor, " width"]
    """Mean of the scaled rows that are read."""
    target_mean: Float[Tensor, " target_width"]
    """Mean of the scaled rows that are reconstructed."""
    reads_what_it_writes: bool
    """Whether the rows to reconstruct are the rows read (an autoencoder), or others."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Normalisation:
    """Statistics of the training rows, by which they are scaled."""

    scale: float
    """Factor that makes the mean squared distance of a row from the mean equal to the width. Of
    several sites each has its own; this is the geometric mean of those that are reconstructed."""
    variance: float
    """Total variance of the scaled rows that are reconstructed: mean of |x - mean|^2."""
    mean: Tensor
    """Mean scaled row, all columns side by side, float64."""
    reads: Float32[Tensor, " width"] | None = None
    """Of each column that is read, its site's factor over ``scale``; None: they are all 1."""
    writes: Float32[Tensor, " target_width"] | None = None
    """Of each column that is reconstructed, the same; None: they are all 1."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepBatch:
    """The input of one optimiser step."""

    rows: Float32[Tensor, "rows width"]
    """Scaled rows to read."""
    target: Float32[Tensor, "rows target_width"]
    """Scaled rows to reconstruct; the same tensor as ``rows`` for an autoencoder."""
    step: int
    """Number of this step, from 1."""
    total_steps: int
    """Steps of the whole run, for what is warmed up or annealed."""
    learning_rate: float
    """Step size, after warm-up and decay."""
    variance: float
    """Total variance of the target rows; losses are divided by it."""
    dead: Tensor | None
    """Bool ``[features]``, True for features that have long not fired; None when all have fired."""
    workspace: Workspace
    """Scratch memory that lives as long as the run."""
    columns: Tensor | None = None
    """Int64 ``[features, 2]``: the first column that a feature reads and writes and the one behind
    the last, where some belong to one site. Its weights elsewhere start at 0 and have to stay so.
    None: all features have all columns."""
    parts: tuple[range, ...] = ()
    """Columns of the target by site, where there are several; empty: there is one."""
    share: RowShare | None = None
    """Processes that take the step together: each is given all rows of the batch and has the same
    tensors, and has to leave the same ones. A kind may encode its part of the rows only and hand
    the codes to the others (``own_part`` and ``whole_codes`` of the kernels, or the ``share`` of a
    kernel's step); one that takes no notice is right, and no faster. None: this process alone."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind(Settings, ABC):
    """One architecture: activation, loss and state of a sparse dictionary.

    A kind is a frozen dataclass. Its fields are its settings (a type such as
    ``Annotated[int, Meta(ge=1)]`` is checked when it is made); its methods say how it works. An
    object of it holds settings only. All tensors are handed to it by name, so that whoever calls
    can keep, move and save them without knowing the kind. It does not know which sites the rows
    come from: that is the wiring's business.

    The life of a kind::

        kind = make_kind("name", {"features": 4096})    # settings are checked here
        tensors = kind.start(initial)                   # once, or read from a checkpoint
        kind.step(tensors, batch)                       # many times: changes tensors in place
        saved = kind.export(tensors, normalisation)     # once: what is left of the run
        kind.encode(saved, rows)                        # for as long as the dictionary lives

    To add one, write the class in a file beside this one and its row in ``table.py``; or offer the
    class from a package of your own by an entry point in the group ``isogloss.kinds``. Then
    subclass ``isogloss.dictionaries.testing.KindContract`` in a test.
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]]
    """The tensors of a finished dictionary: name -> sizes, each ``features``, ``width`` (columns
    read) or ``target_width`` (columns reconstructed); no sizes for a tensor that is one number. All
    are float32, and hashed in this order. Two of them are always there, so that anybody can decode
    by codes @ decoder + decoder_bias: ``decoder`` (features, target_width) and ``decoder_bias``
    (target_width). A kind that subtracts a constant from rows that it reads and does not
    reconstruct may export ``input_bias`` (width) beside them.
    """

    free_norms: ClassVar[bool] = False
    """Whether norms of decoder rows are free while training; False: they are 1."""

    features: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    """Number of features; codes name them by 32-bit integers."""

    def __post_init__(self) -> None:
        Settings.__post_init__(self)  # super() does not work in a dataclass with slots
        self.check()

    @property
    def fires(self) -> float:
        """Features that are meant to fire on a row, as a run's defaults take it: 32 by default."""
        return 32.0

    def check(self) -> None:  # most kinds have nothing to add
        """Raise InvalidInput for settings that contradict each other.

        Raises:
            InvalidInput: two settings contradict each other.
        """

    @abstractmethod
    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        """Return all that changes while training, by name: weights, moments, running statistics.

        Called once a run. The tensors are new, on the CPU, and the whole state of the kind: a
        checkpoint keeps them, and a run resumed from them ends with the same bits.

        Raises:
            InvalidInput: the kind cannot be trained on these rows.
        """

    @abstractmethod
    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one optimiser step, in place on the tensors that :meth:`start` returned.

        The same tensors and batch give the same bits, whatever the number of threads.

        Returns:
            What was measured before the update: losses, and on how many rows each feature fired.
        """

    @abstractmethod
    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Return the tensors of the finished dictionary: those named in ``saved``, on the CPU.

        They apply to raw rows: the scale that training rows were multiplied by is folded in.
        Where all sites have one scale, directions keep their length, so codes are in the unit of
        the raw rows.
        """

    @abstractmethod
    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the features that are active on raw rows.

        Args:
            tensors: those named in ``saved``.
            rows: raw activations; shape and dtype are checked already.

        Returns:
            Codes whose values are positive, or zero where a row has fewer features.
        """

    def may_fire(
        self,
        tensors: Mapping[str, Tensor],
        rows: Float32[Tensor, "rows width"],
        screen: EncoderScreen,
    ) -> Tensor | None:
        """Return the features that may be active on some of a few rows, for a quick encode.

        A kind that overrides this is encoded by the tensors of these features alone, with equal
        codes; so its ``encode`` must treat each feature by itself, or as one of the k largest, and
        must not read ``decoder``.

        Args:
            tensors: those named in ``saved``.
            rows: raw activations.
            screen: of the tensors ``encoder`` and ``encoder_bias``.

        Returns:
            Numbers of features, int64, ascending; None: all may be.
        """
        del tensors, rows, screen
        return None
