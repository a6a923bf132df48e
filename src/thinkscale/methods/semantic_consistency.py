"""Vote over meanings instead of words: classes of answers that entail each other (Kuhn et al. 2023), largest first."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from thinkscale.answers.extract import in_words, marked
from thinkscale.answers.reading import read
from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.engines.protocol import ThinkFormat
from thinkscale.errors import SpecError
from thinkscale.needs import IN_A_QUESTION, Needs
from thinkscale.prompts import ask
from thinkscale.registry import at_least, spec
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import AnswerKind, Finish, Outcome, Problem, Trace

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Texts to vectors of one length."""
_VERDICT = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)


@spec
class SemanticConsistency:
    """Sample n attempts, put those that mean the same into one class, and return the first of the largest class.

    For open answers, and best with the answer kind `text`. Whether two answers mean the same is asked of the model in
    the role `judge`, both directions of entailment in one question, or read off their embeddings. Every new wording is
    compared with the first one of each class, and unites all that it equals; what cannot be asked is not the same.
    """

    n: int = 8
    """Attempts, at least 1."""
    temperature: float = 0.8
    comparisons: int = 28
    """Most questions put to the judge; n (n − 1) / 2 are always enough."""
    max_tokens: int | None = None
    """Tokens that one verdict may take; the session's cap when `none`."""
    embed: Embed | None = None
    """From Python only: compares answers instead of the judge, for no tokens."""
    threshold: float = 0.9
    """Cosine from which two embeddings mean the same, in [−1, 1]."""
    select: Selector = Majority()
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""

    needs: ClassVar = Needs(roles={"judge": frozenset()}, loses=IN_A_QUESTION, effort={"n": 1})

    def __post_init__(self) -> None:
        at_least(1, n=self.n, max_tokens=self.max_tokens)
        at_least(0, comparisons=self.comparisons)
        at_least(-1, threshold=self.threshold)
        if self.embed is not None and not callable(self.embed):
            raise SpecError("`embed` is a function from texts to vectors: it can be given from Python only")

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample, group by meaning, vote."""
        drawn = await llm.sample(problem, self.n, by=self.by, temperature=self.temperature)
        traces = [_worded(t, llm.kind, llm.think) for t in drawn]
        words: dict[str, str] = {}
        for answer in (t.answer for t in traces if t.answer):
            words.setdefault(answer.key, answer.text)
        first = await self._classes(problem, words, llm.role("judge"))
        grouped = [replace(t, answer=replace(t.answer, key=first[t.answer.key])) if t.answer else t for t in traces]
        return Outcome.of(rank(self.select, grouped), grouped)

    def ceiling(self, cap: int) -> Cost:
        """All n attempts, and a verdict on every pair of answers."""
        pairs = 0 if self.embed else min(self.comparisons, self.n * (self.n - 1) // 2)
        verdicts = Cost(tokens=self.max_tokens or cap, calls=1) * pairs
        return attempt_ceiling(self.by, cap) * self.n + verdicts

    async def _classes(self, problem: Problem, words: Mapping[str, str], judge: Session) -> dict[str, str]:
        """The key of the first member of its class, for every key in `words`, which are in draw order."""
        first: dict[str, str] = {}
        left = self.comparisons
        vectors = dict(zip(words, self.embed([*words.values()]), strict=True)) if self.embed and words else {}
        for key, text in words.items():
            known = [k for k in first if first[k] == k]
            if vectors:
                equal = [cosine(vectors[key], vectors[k]) >= self.threshold for k in known]
            else:
                known = known[:left]
                left -= len(known)
                pairs = [ask("same_meaning", question=problem.question, first=words[k], second=text) for k in known]
                replies = await judge.each(pairs, final=False, temperature=0.0, max_tokens=self.max_tokens)
                equal = [any(_agrees(reply, judge) for reply in group) for group in replies]
            united = [k for k, same in zip(known, equal, strict=False) if same]
            first = {k: united[0] if label in united else label for k, label in first.items()}
            first[key] = united[0] if united else key
        return first


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 where one of them is 0."""
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def _agrees(reply: Trace, judge: Session) -> bool:
    said = _VERDICT.findall(judge.think.split(reply.text)[1])
    return bool(said) and said[-1].lower() == "yes" and not reply.finish.lost


def _worded(trace: Trace, kind: AnswerKind, think: ThinkFormat) -> Trace:
    """The trace with all that it says as its answer, where it points out no answer and gives no value."""
    said = think.split(trace.text)[1].strip()
    definite = trace.answer is not None and (marked(said) or read(trace.answer.key).kind is not AnswerKind.text)
    if definite or kind not in (AnswerKind.auto, AnswerKind.text) or trace.finish is not Finish.eos:
        return trace
    return replace(trace, answer=in_words(said))
