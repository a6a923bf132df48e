"""Stop rules on recorded samples: how many draws each takes, and what that costs and gets right.

Rules are pure, so one recording serves all of them, in as many orders of the samples as one likes. It knows answers and
token counts, not texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thinkscale.bench.clock import Attempts, Law, plurality
from thinkscale.errors import BenchError
from thinkscale.pace import Pace
from thinkscale.stopping import StopRule
from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.best_of_infinity import BestOfInfinity
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed


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
    """Questions whose plurality answer over all samples that count is right; of tied answers each counts in part."""
    first_seen: float
    """The same where of tied answers the one seen first wins, as in the release."""
    samples: float
    """Samples that count."""
    tokens: float
    """Generated tokens that are needed, those of samples without an answer included."""
    depth: float
    """Tokens that have to be written one after another."""


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


def spent(
    rule: StopRule,
    cap: int,
    questions: Sequence[Recorded],
    *,
    orders: int = 0,
    seed: int = 0,
    pace: Pace = Pace.thrift,
    places: int | None = 1,
) -> Spent:
    """What a rule takes of recorded questions and gets right.

    Args:
        rule: shown the samples one by one.
        cap: most samples of a question.
        questions: each with one sample or more.
        orders: random orders to average over, drawn without replacement; 0 is the order of the file alone.
        seed: of the orders.
        pace: how large waves are.
        places: samples that are drawn at once, `None` for all; with 1 they are looked at in draw order, as released.
    """
    source = np.random.default_rng(seed)
    law = Law(rule, n=cap, pace=pace, places=places)
    total = np.zeros(5)
    for question in questions:
        attempts = Attempts.told(question.answers, question.tokens)
        size = len(question.answers)
        for order in [source.permutation(size).tolist() for _ in range(orders)] or [range(size)]:
            run = law.run(attempts, order)
            leaders = plurality([question.answers[i] for i in run.voters])
            won = (question.gold in leaders) / max(1, len(leaders))
            total += (won, leaders[:1] == [question.gold], len(run.voters), run.needed, run.depth)
    correct, first, samples, paid, depth = (total / max(1, orders)).tolist()
    return Spent(correct=correct, first_seen=first, samples=samples, tokens=paid, depth=depth)


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
