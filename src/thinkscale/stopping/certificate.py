"""What can be certified of a majority however often one looked: an error bound that holds at any time to stop.

After Cordero-Encinar & Duncan 2025 (MMC, arXiv 2510.17472) and Ota et al. 2026 (CITE, arXiv 2605.05873), in a plain
form. What is certified is that an answer is this model's most likely one, never that it is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from thinkscale.errors import SpecError
from thinkscale.stopping.posterior import ahead_chance

Label = TypeVar("Label", bound=Hashable)

FIRST = 3
"""Draws that choose the answer to be tested."""


@dataclass(frozen=True, slots=True)
class Certificate(Generic[Label]):
    """The evidence that one answer is the most likely one."""

    answer: Label
    """The leader of the first draws: it was chosen before those were drawn that are counted."""
    evidence: float
    """The smallest e-value against any rival, unseen ones included: 1 says nothing, 20 certifies at 5 %."""

    @property
    def error(self) -> float:
        """The level, from 0 to 1, at which the answer is certified: the chance to certify a wrong one is no larger."""
        return 1.0 / max(1.0, self.evidence)


def certificate(answers: Sequence[Label | None], *, first: int = FIRST) -> Certificate[Label] | None:
    """What draws say of the leader of the first of them; `None` while there is nobody to test.

    Draws have to be independent and alike: from one prompt, model and sampling, with classes that were fixed before
    counting. Inside a wave short draws come first, so only complete waves may be given, in draw order.

    Args:
        answers: classes in draw order; `None`, an attempt without an answer, counts for no side.
        first: draws that choose whom to test, at least 1; of tied ones the first seen. They are not counted.

    Raises:
        SpecError: `first` is less than 1.
    """
    if first < 1:
        raise SpecError(f"`first={first}` must be at least 1")
    chosen = Counter(a for a in answers[:first] if a is not None).most_common(1)
    if len(answers) < first or not chosen:
        return None
    tested = chosen[0][0]
    later = Counter(a for a in answers[first:] if a is not None)
    votes = later.pop(tested, 0)
    return Certificate(tested, evidence(votes, max(later.values(), default=0)))


def evidence(votes: int, rival: int) -> float:
    """The e-value of counts against a rival: ∫₀¹ (1 + λ)^votes (1 − λ)^rival dλ.

    If the answer is not more likely than its rival, every (1 + λ)^votes (1 − λ)^rival is the fortune of a fair or
    losing bet, and so is their mean: it ever reaches 1 / α with a chance of at most α. In closed form it is
    2^(n + 1) · B(votes + 1, rival + 1) · P(X > ½) for X ~ Beta(votes + 1, rival + 1), with n = votes + rival.
    """
    total = votes + rival
    log_beta = math.lgamma(votes + 1) + math.lgamma(rival + 1) - math.lgamma(total + 2)
    chance = ahead_chance(votes, rival)
    if chance == 0:
        return 0.0
    log_value = (total + 1) * math.log(2) + log_beta + math.log(chance)
    return math.exp(min(log_value, 700.0))
