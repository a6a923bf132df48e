"""Words by which a text shows doubt, thinking or structure: plain files, one phrase per line, lines of `#` aside.

A list never changes under its name: a better one gets the next number, so that scores of different days compare.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files

from thinkscale.errors import SpecError
from thinkscale.registry import nearest


@cache
def phrases(name: str) -> tuple[str, ...]:
    """The phrases of a list, such as `hedging-1`.

    Raises:
        SpecError: there is no such list.
    """
    known = sorted(f.name.removesuffix(".txt") for f in files(__name__).iterdir() if f.name.endswith(".txt"))
    if name not in known:
        raise SpecError(f"there is no lexicon `{name}`{nearest(name, known)}")
    lines = files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith("#"))


def count(text: str, wanted: tuple[str, ...]) -> int:
    """How often whole phrases occur in a text, whatever their case and spacing; of overlapping ones the longest."""
    return len(_pattern(wanted).findall(text.casefold().replace("’", "'"))) if wanted else 0


@lru_cache(maxsize=64)
def _pattern(wanted: tuple[str, ...]) -> re.Pattern[str]:
    longest = sorted(wanted, key=len, reverse=True)
    spaced = (r"\s+".join(map(re.escape, phrase.casefold().split())) for phrase in longest)
    return re.compile(rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)")
