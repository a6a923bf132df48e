"""A hundred word problems of one and two steps, made from a seed: easy enough for a model of 135 million parameters.

Each is a line for `thinkscale bench`, asked after the same four worked examples.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator

SEED, COUNT = 20, 100
ROLES = ("user", "assistant")
NAMES = ("Nina", "Paul", "Rosa", "Omar", "Lena", "Hugo", "Vera", "Karl")
THINGS = ("pears", "ribbons", "nuts", "pebbles", "buttons", "eggs", "tickets", "candles")
PLACES = ("shelves", "baskets", "tables", "drawers", "carts")

SHOTS = (
    (
        "Ivy has 4 stones. She finds 3 stones and then drops 2 stones. How many stones does Ivy have now?",
        "She has 4 stones and finds 3. 4 + 3 = 7. She drops 2. 7 - 2 = 5. The answer is 5.",
    ),
    (
        "There are 4 rows with 3 chairs in each row. How many chairs are there in total?",
        "There are 4 rows of 3 chairs. 4 * 3 = 12. The answer is 12.",
    ),
    (
        "Carl has 8 lemons. He eats 3 lemons. How many lemons are left?",
        "He has 8 lemons and eats 3. 8 - 3 = 5. The answer is 5.",
    ),
    (
        "Rita has 5 keys. She finds 2 keys. How many keys does Rita have in total?",
        "She has 5 keys and finds 2. 5 + 2 = 7. The answer is 7.",
    ),
)


def more(source: random.Random) -> tuple[str, int]:
    """One addition."""
    who, what, a, b = source.choice(NAMES), source.choice(THINGS), source.randint(2, 9), source.randint(1, 6)
    return f"{who} has {a} {what}. {who} finds {b} {what}. How many {what} does {who} have in total?", a + b


def fewer(source: random.Random) -> tuple[str, int]:
    """One subtraction."""
    who, what, b = source.choice(NAMES), source.choice(THINGS), source.randint(1, 4)
    a = b + source.randint(2, 6)
    return f"{who} has {a} {what}. {who} sells {b} {what}. How many {what} are left?", a - b


def times(source: random.Random) -> tuple[str, int]:
    """One multiplication."""
    where, what, a, b = source.choice(PLACES), source.choice(THINGS), source.randint(2, 9), source.randint(2, 9)
    return f"There are {a} {where} with {b} {what} on each. How many {what} are there in total?", a * b


def both(source: random.Random) -> tuple[str, int]:
    """An addition and a subtraction."""
    who, what, a, b = source.choice(NAMES), source.choice(THINGS), source.randint(2, 6), source.randint(1, 4)
    c = source.randint(1, a)
    asked = f"How many {what} does {who} have now?"
    return f"{who} has {a} {what}. {who} finds {b} {what} and then drops {c} {what}. {asked}", a + b - c


KINDS: tuple[Callable[[random.Random], tuple[str, int]], ...] = (more, fewer, times, both)


def problems(count: int = COUNT, seed: int = SEED) -> Iterator[dict[str, object]]:
    """Different problems, the kinds in turn."""
    source = random.Random(seed)
    earlier = [{"role": role, "content": said} for shot in SHOTS for role, said in zip(ROLES, shot, strict=True)]
    seen: set[str] = set()
    while len(seen) < count:
        question, gold = KINDS[len(seen) % len(KINDS)](source)
        if question not in seen:
            yield {"question_id": f"words/{len(seen)}", "question": question, "gold": str(gold), "messages": earlier}
            seen.add(question)


if __name__ == "__main__":
    sys.stdout.writelines(json.dumps(row) + "\n" for row in problems())
