"""Texts that nobody means well: nothing raises, nothing takes long. `THINKSCALE_TEST_TEXTS` sets how many are tried."""

from __future__ import annotations

import os
import random
import time

from clocks import busy
from thinkscale.answers import find
from thinkscale.types import AnswerKind

TEXTS = int(os.environ.get("THINKSCALE_TEST_TEXTS", "2000"))
PIECES = [
    *("\\boxed{", "{", "}", " ", "9", "1,111", "answer ", "the answer is ", "$", "\\", "[", "]", "\\frac", "-", "\n"),
    *("1/", "\\boxed{1},", "(A) ", '{"a":', "answer **", "answer is:", "1e", "\\(", "\\)", "\\[", "\\]", "\\text{"),
    *("```", "**", "__", "a ", "A. ", "yes, ", "<answer>", "</answer>", "<think>", "</think>", "####", "\n#### "),
    *(
        "\nQ:",
        "six ",
        "one-",
        "So ",
        "= ",
        "1, ",
        "(1,",
        "答案是",
        "是",
        "。",
        "ответ ",
        "الإجابة",
        "1:",
        "12:3",
        "a_",
        "x=",
    ),
    *("\t", "not ", "is not but ", '"answer":', "'answer': '", "é", "①", "$1$ and ", "\\begin{matrix}", "June 1 "),
    *("is correct ", "**A** ", "\n\n", "a.b.", "I think ", "٣", "because ", "after ", "İ", "\u0301", "\ud800", "\x00"),
]
QUESTIONS = ["", "Which?\nA) 12\nB) Paris is a city\nC) Rome", "How many sides?", "Who wrote it?"]


def text(chance: random.Random) -> str:
    if chance.random() < 0.5:
        # A few pieces again and again are what patterns stumble over.
        unit = "".join(chance.choices(PIECES, k=chance.randint(1, 4)))
        return (unit * (chance.choice((50, 500, 9000)) // len(unit) + 1)) + "".join(chance.choices(PIECES, k=3))
    return "".join(chance.choices(PIECES, k=chance.randint(1, 400)))


def test_hostile_texts_neither_raise_nor_take_long():
    chance = random.Random(11)
    kinds = list(AnswerKind)
    for number in range(TEXTS):
        said, kind, question = text(chance), chance.choice(kinds), chance.choice(QUESTIONS)
        truncated = chance.random() < 0.3
        start = time.process_time()
        found = find(said, kind, question, truncated=truncated)
        took = time.process_time() - start
        assert found is None or (found.answer.key and found.answer.text and 0 <= found.start <= found.end <= len(said))
        if took > 0.1:
            again = busy(lambda a=(said, kind, question), t=truncated: find(*a, truncated=t), below=0.1)
            assert again < 0.1, f"text {number} ({said[:80]!r}, {kind}) took {again:.3f} s"
