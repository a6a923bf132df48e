"""Likenesses against their definitions, and how long the longest pools take."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocks import busy
from thinkscale.selection.likeness import CHARACTERS, LIKENESSES, WORDS, edit, token_f1


def distance(a, b):
    """Levenshtein's distance, the slow obvious way."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


def f1(a, b):
    left, right = a.casefold().split(), b.casefold().split()
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right)) if left and right else float(left == right)


def one_by_one(alike, texts):
    return np.array([[1.0 if i == j else alike(a, b) for j, b in enumerate(texts)] for i, a in enumerate(texts)])


def similar(a, b):
    return 1 - distance(a, b) / max(len(a), len(b), 1)


@settings(deadline=None)
@given(st.lists(st.text("abc", max_size=80), min_size=1, max_size=5))
def test_edit_is_the_distance_that_the_obvious_table_finds(texts):
    assert edit(texts) == pytest.approx(one_by_one(similar, texts), abs=1e-12)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_edit_counts_any_characters(texts):
    assert edit(texts) == pytest.approx(one_by_one(similar, texts), abs=1e-12)


@given(st.lists(st.text("aB ", max_size=12), min_size=1, max_size=6))
def test_token_f1_is_that_of_the_words_of_each_pair(texts):
    assert token_f1(texts) == pytest.approx(one_by_one(f1, texts), abs=1e-12)


def test_of_texts_that_are_too_long_together_the_ends_are_compared():
    long = CHARACTERS // 2
    assert edit(["x" * long + "a" * long, "y" * long + "a" * long])[0, 1] == 1
    assert edit(["a" * long + "x" * long, "a" * long + "y" * long])[0, 1] == 0
    many = WORDS // 2
    assert token_f1(["x " * many + "a " * many, "y " * many + "a " * many])[0, 1] == 1
    assert token_f1(["a " * many + "x " * many, "a " * many + "y " * many])[0, 1] == 0


@pytest.mark.parametrize("utility", LIKENESSES)
@pytest.mark.parametrize(("n", "length"), [(2, 100_000), (32, 8_000), (1024, 8_000), (1024, 16)])
def test_no_pool_takes_long(utility, n, length):
    chance = random.Random(5)
    letters = [chr(c) for c in range(0x4E00, 0x5E00)] + [" "] * 800
    texts = ["".join(chance.choices(letters, k=length)) for _ in range(n)]
    assert busy(lambda: LIKENESSES[utility](texts), below=0.2) < 0.4
