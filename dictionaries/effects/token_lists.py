"""The tokens that features promote and suppress, as they are kept beside a dictionary.

Imports no torch: a server keeps and shows what was measured elsewhere.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from isogloss.errors import CorruptData, InvalidInput
from isogloss.store import FileSystem, write_file_durably

FORMAT, VERSION = "isogloss-token-effects", 1
TOKEN_EFFECTS_FILE = "token-effects.json"
MOST_TOKENS, MOST_CHARACTERS = 64, 256
"""Tokens of a list, and characters of a token, that are kept at most."""

_FILES = FileSystem()  # the store's writer: what is durable is decided in one place


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEffect:
    """One token whose probability a feature changes."""

    token: str
    """As text has it; a part of a character as the vocabulary has it."""
    token_id: int
    """Its id."""
    change: float
    """Of its log probability, mean over the texts' tokens, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEffects:
    """The tokens that a feature promotes and suppresses most."""

    feature: int
    """Its number."""
    promoted: tuple[TokenEffect, ...]
    """Measured at the dictionary's site, most promoted first."""
    suppressed: tuple[TokenEffect, ...]
    """Most suppressed first."""
    direct_promoted: tuple[TokenEffect, ...]
    """Directly through the last norm and the unembedding."""
    direct_suppressed: tuple[TokenEffect, ...]
    """Directly, most suppressed first."""
    agreement: float
    """Pearson correlation of measured and direct changes over all tokens; 0 where all are one."""


LISTS = ("promoted", "suppressed", "direct_promoted", "direct_suppressed")
"""Names of the lists of :class:`TokenEffects`."""


def check_token_effects(effects: Sequence[TokenEffects], features: int) -> None:
    """Refuse effects that cannot be kept beside a dictionary.

    Args:
        effects: of its features.
        features: of the dictionary.

    Raises:
        InvalidInput: there is no such feature, one stands twice, a list is too long, or a number is
            not finite.
    """
    seen: set[int] = set()
    for one in effects:
        if not 0 <= one.feature < features:
            raise InvalidInput(f"feature {one.feature}: the dictionary has 0 to {features - 1}")
        if one.feature in seen:
            raise InvalidInput(f"feature {one.feature} stands twice among the effects; give one")
        seen.add(one.feature)
        lists: list[tuple[TokenEffect, ...]] = [getattr(one, name) for name in LISTS]
        most = max(map(len, lists))
        longest = max((len(each.token) for some in lists for each in some), default=0)
        if most > MOST_TOKENS or longest > MOST_CHARACTERS:
            raise InvalidInput(
                f"feature {one.feature} has a list of {most} tokens, the longest of {longest} "
                f"characters; kept are {MOST_TOKENS} of {MOST_CHARACTERS} at most"
            )
        numbers = [one.agreement, *(each.change for some in lists for each in some)]
        if not all(map(math.isfinite, numbers)):
            raise InvalidInput(
                f"feature {one.feature} has a change or agreement that is not finite; measure again"
            )


def write_token_effects(effects: Sequence[TokenEffects], directory: str | Path) -> Path:
    """Write effects beside a saved dictionary, in place of those that were there.

    Args:
        effects: of its features.
        directory: of the dictionary.
    """
    path = Path(directory) / TOKEN_EFFECTS_FILE
    made = [
        {"feature": one.feature, "agreement": one.agreement}
        | {
            name: [[each.token, each.token_id, each.change] for each in getattr(one, name)]
            for name in LISTS
        }
        for one in effects
    ]
    whole = {"format": FORMAT, "version": VERSION, "effects": made}
    text = json.dumps(whole, allow_nan=False) + "\n"
    write_file_durably(path, text.encode(), files=_FILES)
    return path


def read_token_effects(directory: str | Path) -> dict[int, TokenEffects]:
    """Read the effects that stand beside a saved dictionary, by feature; none: an empty mapping.

    Args:
        directory: of the dictionary.

    Raises:
        CorruptData: the file holds no such effects, or cannot be read.
    """
    path = Path(directory) / TOKEN_EFFECTS_FILE
    try:
        found: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptData(f"{path} cannot be read ({error}): measure the effects again") from error
    whole = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    if whole.get("format") != FORMAT or whole.get("version") != VERSION:
        raise CorruptData(f"{path} is no {FORMAT} of version {VERSION}; measure the effects again")
    try:
        effects = [_read(one) for one in cast("list[object]", whole["effects"])]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptData(f"{path} does not hold effects ({error}); measure them again") from error
    return {one.feature: one for one in effects}


def _read(found: object) -> TokenEffects:
    one = cast("dict[str, object]", found)
    lists = {
        name: tuple(
            TokenEffect(token=str(token), token_id=int(number), change=_finite(change))
            for token, number, change in cast("list[tuple[str, int, float]]", one[name])
        )
        for name in LISTS
    }
    return TokenEffects(
        feature=int(cast("int", one["feature"])),
        agreement=_finite(cast("float", one["agreement"])),
        promoted=lists["promoted"],
        suppressed=lists["suppressed"],
        direct_promoted=lists["direct_promoted"],
        direct_suppressed=lists["direct_suppressed"],
    )


def _finite(found: float | str) -> float:
    """Return a number; ValueError where it is not finite."""
    if not math.isfinite(value := float(found)):
        raise ValueError(f"{found} is not finite")
    return value
