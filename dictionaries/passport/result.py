"""What a check of a passport comes to: same, descended or other, with its reasons."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from isogloss.errors import InvalidInput, PassportRefused

PassportPart = Literal[
    "model", "site", "width", "scaling", "begin", "padding", "activation", "tensors", "tokenizer"
]
"""What is compared, and may be allowed to differ."""
PARTS: tuple[PassportPart, ...] = get_args(PassportPart)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A part that is other than the passport says."""

    part: PassportPart
    """Which."""
    text: str
    """What was found and what is wanted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassportResult:
    """What a check came to."""

    differences: tuple[Difference, ...] = ()
    """Parts that are other, those that were allowed included."""
    cautions: tuple[str, ...] = ()
    """What passes and should be known: descended weights, parts that could not be checked."""
    descended: bool = False
    """Whether the model descends from the one that was trained on."""

    @property
    def answer(self) -> Literal["same", "descended", "other"]:
        """``other`` where a part differs, ``descended`` where the model was changed."""
        if self.differences:
            return "other"
        return "descended" if self.descended else "same"

    def __add__(self, more: "PassportResult") -> "PassportResult":
        return PassportResult(
            differences=(*self.differences, *more.differences),
            cautions=(*self.cautions, *more.cautions),
            descended=self.descended or more.descended,
        )

    def require(self, allow: Collection[str] = ()) -> "PassportResult":
        """Raise an error unless all that differs is allowed by name.

        Args:
            allow: names of parts that may differ.

        Returns:
            This result; what was allowed is among its cautions.

        Raises:
            PassportRefused: a part differs that is not allowed.
            InvalidInput: ``allow`` names no part.
        """
        check_parts(allow)
        refused = [one for one in self.differences if one.part not in allow]
        if refused:
            parts = sorted({one.part for one in refused})
            raise PassportRefused(
                f"the dictionary is not for this: {'; '.join(one.text for one in refused)}. If "
                f"that is meant: allow={parts}"
            )
        said = tuple(f"allowed to differ: {one.text}" for one in self.differences)
        return PassportResult(
            differences=self.differences,
            cautions=(*self.cautions, *said),
            descended=self.descended,
        )


def check_parts(allow: Collection[str]) -> None:
    """Refuse names of parts that there are not, with InvalidInput."""
    if isinstance(allow, str):
        raise InvalidInput(f"allow is the string {allow!r}; give a list: [{allow!r}]")
    if unknown := sorted({*allow} - {*PARTS}):
        raise InvalidInput(f"allow names {unknown}; the parts of a passport are {list(PARTS)}")
