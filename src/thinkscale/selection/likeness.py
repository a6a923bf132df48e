"""How alike the texts of a pool are, every one compared with every other, in a time that no pool can draw out.

One very long text, or very many texts, would take as much time as there are pairs of characters. What is compared is
therefore bounded over the whole pool, and of texts that are too long together only the ends count, where answers are.
Knows texts and nothing of what they answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

CHARACTERS = 2**14
"""Characters of a pool that `edit` compares with one another."""
WORDS = 2**15
"""Words of a pool that `token_f1` compares."""
LONG = 16
"""Characters of a word, on average, beyond which fewer words are compared."""


def exact(texts: Sequence[str]) -> FloatArray:
    """1 for a text and itself and 0 otherwise, shape [n, n]."""
    return np.eye(len(texts))


def token_f1(texts: Sequence[str]) -> FloatArray:
    """Harmonic mean of precision and recall of the words of one text among those of another, shape [n, n], in [0, 1].

    Of n texts with more than 2 × `WORDS` characters between them each counts with its last `WORDS / n` words.
    """
    long = sum(map(len, texts)) > 2 * WORDS
    split = [_last_words(text, _share(WORDS, texts)) if long else text.casefold().split() for text in texts]
    lengths = np.array([len(words) for words in split], np.float64)
    whole = lengths[:, None] + lengths[None, :]
    alike = np.where(whole > 0, 2 * _shared(split) / np.maximum(whole, 1), 1.0)
    np.fill_diagonal(alike, 1.0)
    return alike


def edit(texts: Sequence[str]) -> FloatArray:
    """1 − Levenshtein distance / length of the longer text, shape [n, n], in [0, 1].

    Of n texts with more than `CHARACTERS` characters between them each counts with its last `CHARACTERS / n`.
    """
    if sum(map(len, texts)) > CHARACTERS:
        texts = [text[-_share(CHARACTERS, texts) :] for text in texts]
    alike = np.eye(len(texts))
    lengths = np.array([len(text) for text in texts], np.float64)
    for i, distances in enumerate(_distances(texts)):
        longer = np.maximum(np.maximum(lengths[:i], lengths[i]), 1)
        alike[i, :i] = alike[:i, i] = 1 - distances / longer
    return alike


LIKENESSES: dict[str, Callable[[Sequence[str]], FloatArray]] = {"exact": exact, "token-f1": token_f1, "edit": edit}


def _share(whole: int, texts: Sequence[str]) -> int:
    return max(1, whole // len(texts))


def _last_words(text: str, most: int) -> list[str]:
    return text[-LONG * most :].casefold().split()[-most:]


def _shared(split: Sequence[Sequence[str]]) -> FloatArray:
    """How many words any two texts have in common, each as often as in the one that has it less often."""
    places: dict[tuple[str, int], list[int]] = {}
    for i, words in enumerate(split):
        for word, times in Counter(words).items():
            for nth in range(times):
                places.setdefault((word, nth), []).append(i)
    found: list[list[NDArray[np.intp]]] = [[] for _ in split]
    for own in places.values():
        if len(own) > 1:
            them = np.array(own, np.intp)
            for i in own:
                found[i].append(them)
    n = len(split)
    rows = [np.bincount(np.concatenate(them), minlength=n) if them else np.zeros(n) for them in found]
    return np.array(rows, np.float64).reshape(n, n)


def _distances(texts: Sequence[str]) -> list[FloatArray]:
    """The Levenshtein distances of every text to those before it.

    The columns of the table of distances are kept as bits of their differences (Myers 1999, in the form of Hyyrö 2003),
    those of all earlier texts side by side in one number, each with a bit above it that takes up what it carries.
    """
    ends = [*accumulate((len(text) + 1 for text in texts), initial=0)]
    spots: dict[str, list[int]] = {}
    for text, start in zip(texts, ends, strict=False):
        for at, letter in enumerate(text, start):
            spots.setdefault(letter, []).append(at)
    equal = {letter: _bits(at, at[-1] + 1) for letter, at in spots.items()}
    every = _bits([at for found in spots.values() for at in found], ends[-1])
    first = _bits([start for text, start in zip(texts, ends, strict=False) if text], ends[-1])
    found: list[FloatArray] = []
    for text, end in zip(texts, ends, strict=False):
        width = (1 << end) - 1
        inside, begins = every & width, first & width
        up, down = inside, 0
        for letter in text:
            same = equal[letter] & width
            level = (((same & up) + up) ^ up) | same | down
            right = ((down | ~(level | up)) << 1 | begins) & inside
            up, down = (((level & up) << 1) | ~(level | right)) & inside, right & level
        found.append(len(text) + _ones(up, ends[: len(found)], end) - _ones(down, ends[: len(found)], end))
    return found


def _bits(at: Sequence[int], size: int) -> int:
    """The number whose bits are set at some places below a size."""
    bits = np.zeros(size, np.uint8)
    bits[np.asarray(at, np.intp)] = 1
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def _ones(number: int, starts: Sequence[int], end: int) -> FloatArray:
    """How many bits are set from each start to the next one."""
    if not starts:
        return np.zeros(0)
    bits = np.unpackbits(np.frombuffer(number.to_bytes(end // 8 + 1, "little"), np.uint8), bitorder="little")
    ones: FloatArray = np.add.reduceat(bits, np.asarray(starts, np.intp), dtype=np.float64)
    return ones
