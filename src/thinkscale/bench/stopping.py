"""Stop rules on recorded samples: after how many draws each fires, and what that costs and gets right.

Rules are pure, so one recording serves all of them, in as many orders of the samples as one likes. It knows answer
classes and token counts, not texts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkscale.errors import BenchError
from thinkscale.stopping import StopRule
from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.best_of_infinity import BestOfInfinity
from thinkscale.stopping.counts import CountRule, Counts
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Answer, Trace

IntArray = NDArray[np.intp]
_BLOCK = 8192
"""Sequences that are followed at once; it bounds the memory for their counts."""


def stops(rule: StopRule, classes: IntArray) -> IntArray:
    """How many draws a rule takes of each sequence: those up to where it first fires, or all of them.

    Rules on counts and `esc` are followed through all sequences at once, and any other rule is called after every draw,
    which is slow and always right; S is the cap of a rule that asks for one. A rule that reads scores or probabilities
    finds none here and never fires.

    Args:
        rule: reads the answers of the draws.
        classes: answer classes in draw order, shape [..., S]; −1 is a draw without an answer.

    Returns:
        Numbers of draws, shape [...].
    """
    rows = classes.reshape(-1, classes.shape[-1])
    rule = rule.within(rows.shape[1]) if hasattr(rule, "within") else rule
    if isinstance(rule, Fixed):
        found = np.full(len(rows), rows.shape[1])
    elif isinstance(rule, Esc):
        found = _first_window(rule.w, rows)
    elif isinstance(rule, CountRule):
        walk = _Walk(rule.decided, rows.shape[1])
        found = np.concatenate([walk.along(rows[i : i + _BLOCK]) for i in range(0, max(1, len(rows)), _BLOCK)])
    else:
        found = np.array([_called(rule, row) for row in rows], np.intp)
    return np.asarray(found.reshape(classes.shape[:-1]))


def _called(rule: StopRule, row: IntArray) -> int:
    """The slow and obvious way."""
    traces = [Trace(prompt=(), answer=None if c < 0 else Answer(str(c), str(c))) for c in row]
    return next((n for n in range(1, len(traces)) if rule(traces[:n])), len(traces))


def _first_window(w: int, rows: IntArray) -> IntArray:
    windows = rows[:, : rows.shape[1] // w * w].reshape(len(rows), -1, w)
    agreed = (windows == windows[..., :1]).all(axis=-1) & (windows[..., 0] >= 0)
    first = (agreed.cumsum(axis=-1) == 0).sum(axis=-1) * w + w
    found: IntArray = np.where(agreed.any(axis=-1), first, rows.shape[1])
    return found


class _Walk:
    """Counts as states: a draw leads from one to the next by how many votes its answer had, and each is judged once."""

    def __init__(self, decided: Callable[[Counts], bool], size: int) -> None:
        self._decided = decided
        self._base = size + 1
        self._states: list[Counts] = [()]
        self._numbers: dict[Counts, int] = {(): 0}
        self._fires = [False]
        self._next: dict[int, int] = {}

    def along(self, rows: IntArray) -> IntArray:
        """Draws that each of the rows takes."""
        found = np.full(len(rows), rows.shape[1])
        counts = np.zeros((len(rows), rows.max(initial=0) + 1), np.intp)
        state = np.zeros(len(rows), np.intp)
        alive = np.arange(len(rows))
        for place in range(rows.shape[1]):
            who = alive[rows[alive, place] >= 0]
            drawn = rows[who, place]
            had = counts[who, drawn]
            counts[who, drawn] += 1
            codes, which = np.unique(state[who] * self._base + had, return_inverse=True)
            state[who] = np.array([self._after(int(code)) for code in codes], np.intp)[which]
            fired = np.array(self._fires)[state]
            found[alive[fired[alive]]] = place + 1
            alive = alive[~fired[alive]]
            if not alive.size:
                break
        return found

    def _after(self, code: int) -> int:
        """The state that a draw leads to; the code is the state before and the votes that its answer had."""
        if code not in self._next:
            state, had = divmod(code, self._base)
            votes = list(self._states[state])
            if had:
                votes.remove(had)
            counts = tuple(sorted([*votes, had + 1], reverse=True))
            if counts not in self._numbers:
                self._numbers[counts] = len(self._states)
                self._states.append(counts)
                self._fires.append(self._decided(counts))
            self._next[code] = self._numbers[counts]
        return self._next[code]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """All samples of one question, in the order of the file."""

    answers: tuple[str | None, ...]
    """Canonical; `None` without one."""
    tokens: tuple[int, ...]
    """Generated tokens of each sample."""
    gold: str
    """The canonical reference answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a rule takes and gets right, summed over questions and averaged over orders of the samples."""

    correct: float
    """Questions whose plurality answer over all drawn samples is right; ties go to the answer seen first."""
    samples: float
    tokens: float
    """Generated tokens of the samples drawn, those without an answer included."""


def recorded(path: Path) -> list[Recorded]:
    """Read a file of the Best-of-infinity release (Komiyama et al. 2025), one JSON object per line.

    Of each, `gold_answer` is read and `all_answers`, a list of [answer, tokens].

    Raises:
        BenchError: a line is something else.
    """
    questions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            answers, tokens = zip(*row["all_answers"], strict=True)
            gold = canonical(str(row["gold_answer"])) or ""
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"line {number} of `{path}` holds no recorded answers: {error!r}") from None
        found = tuple(canonical("" if a is None else str(a)) for a in answers)
        questions.append(Recorded(answers=found, tokens=tuple(int(t) for t in tokens), gold=gold))
    return questions


def canonical(answer: str) -> str | None:
    """An answer of that release as it is compared: trimmed, without degree marks, fractions spelt one way."""
    plain = re.sub(r"\^?\{?(\\circ|°)\}?", "", answer).replace(r"\dfrac", r"\frac").strip()
    return plain or None


def spent(rule: StopRule, cap: int, questions: Sequence[Recorded], *, orders: int = 0, seed: int = 0) -> Spent:
    """What a rule takes of recorded questions and gets right.

    Args:
        rule: shown the samples one by one.
        cap: most samples of a question.
        questions: each with one sample or more.
        orders: random orders to average over, drawn without replacement; 0 is the order of the file alone.
        seed: of the orders.
    """
    source = np.random.default_rng(seed)
    total = np.zeros(3)
    for question in questions:
        size = len(question.answers)
        order = np.array([source.permutation(size) for _ in range(orders)] or [np.arange(size)])[:, :cap]
        names = {a: i for i, a in enumerate(dict.fromkeys(a for a in question.answers if a is not None))}
        classes = np.array([-1 if a is None else names[a] for a in question.answers], np.intp)[order]
        drawn = stops(rule, classes)
        tokens = np.array(question.tokens)[order].cumsum(axis=1)
        right = names.get(question.gold, -2)
        won = sum(_plurality(row[:n]) == right for row, n in zip(classes.tolist(), drawn.tolist(), strict=True))
        total += (won, drawn.sum(), tokens[np.arange(len(drawn)), drawn - 1].sum())
    correct, samples, paid = (total / max(1, orders)).tolist()
    return Spent(correct=correct, samples=samples, tokens=paid)


def _plurality(classes: Sequence[int]) -> int:
    """The most frequent class, of equal ones the first; −1 without any."""
    return next((c for c, _ in Counter(c for c in classes if c >= 0).most_common(1)), -1)


RULES: Mapping[str, tuple[StopRule, int]] = {
    **{f"SC@{n}": (Fixed(), n) for n in (1, 5, 16, 40, 80)},
    **{f"ahead-by-{k}": (AheadByK(k=k), 40) for k in (2, 3, 4)},
    "AC .95": (AdaptiveConsistency(), 40),
    "ESC w=5": (Esc(), 40),
    **{
        f"BF {prior}, B={factor:g}": (BestOfInfinity(factor=factor, prior=prior), 100)
        for prior in ("code", "paper")
        for factor in (10.0, 100.0)
    },
}
"""Rules that are commonly compared, each with its cap in samples."""


def comparison(questions: Sequence[Recorded], *, orders: int = 0, seed: int = 0) -> dict[str, Spent]:
    """Every one of `RULES` on the same questions; `comparison(recorded(path))` is the table of a file as it stands."""
    return {name: spent(rule, cap, questions, orders=orders, seed=seed) for name, (rule, cap) in RULES.items()}
