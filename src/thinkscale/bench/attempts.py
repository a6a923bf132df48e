"""Recorded attempts at one question as the records that rules and the store know: a problem, traces, verdicts.

This is where the kind of an answer is settled and an answer is found in a text. It knows no file and no store.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import islice

from thinkscale.answers import Classes, canonical, extract, kind_of
from thinkscale.answers.abstentions import is_abstention
from thinkscale.answers.reading import read
from thinkscale.bench.grading import Grader
from thinkscale.bench.options import letter, lettered, with_options
from thinkscale.bench.pools import PoolLine, PoolSample, Source
from thinkscale.bench.references import Reference
from thinkscale.types import Answer, AnswerKind, Origin, Problem, Score, Segment, Trace

_EVIDENCE = 16
"""Recorded answers from which the kind of a question is told."""
_MEASURED = {1: Answer("(right)", "right"), 0: Answer("(wrong)", "wrong")}
"""What attempts answer of which only the verdict is known: the wrong ones count as one answer."""


class Reading(StrEnum):
    """Where the answers of imported samples come from."""

    auto = "auto"
    """The source's where it recorded any, otherwise the text; the source's verdicts where it has them."""
    source = "source"
    """The source's alone."""
    text = "text"
    """The text; verdicts are ours as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """All recorded attempts of one source at one question."""

    problem: Problem
    reference: Reference
    traces: tuple[Trace, ...]
    """In draw order, equal answers under one key."""
    theirs: tuple[bool | None, ...]
    """The source's verdict on each."""
    ours: tuple[bool, ...]
    """Our verdict on each; empty without a reference."""

    def credits(self, *, judged: bool) -> dict[str, float]:
        """What every answer is worth: the source's mean verdict on it where it is asked for, otherwise ours."""
        verdicts: dict[str, list[bool]] = {}
        for at, trace in enumerate(self.traces):
            if trace.answer is None:
                continue
            found = verdicts.setdefault(trace.answer.key, [])
            if judged and (verdict := self.theirs[at]) is not None:
                found.append(verdict)
        ours = {t.answer.key: verdict for t, verdict in zip(self.traces, self.ours, strict=False) if t.answer}
        return {key: sum(found) / len(found) if found else float(ours[key]) for key, found in verdicts.items()}

    def gradable(self, *, judged: bool) -> bool:
        """Whether every answer has a verdict or can be given one."""
        told = self.theirs if judged else (None,) * len(self.theirs)
        known = {t.answer.key for t, verdict in zip(self.traces, told, strict=True) if t.answer and verdict is not None}
        return bool(self.reference.gold) or all(t.answer is None or t.answer.key in known for t in self.traces)


async def attempts_of(
    line: PoolLine, source: Source, reading: Reading = Reading.auto, kind: AnswerKind | None = None
) -> Attempts:
    """The attempts of a line.

    Args:
        line: as it was read.
        source: what all attempts of its source have.
        reading: where the answers come from.
        kind: of the answer; what the line says, or what question, options and answers suggest, when absent.
    """
    question = with_options(line.question, line.options)
    kind = kind or line.kind or _kind(question, line)
    problem = replace(Problem.of(question, kind), id=line.question_id)
    reference = lettered(line.reference, line.options, kind)
    answers = await _classed(_answers(line, source, reading, problem), kind)
    return Attempts(
        problem=problem,
        reference=reference,
        traces=tuple(_traces(problem, line, answers, rewards=not source.rewards_judge)),
        theirs=tuple(map(partial(_verdict, source), line.samples)),
        ours=() if source.bare or not reference.gold else await _graded(problem, reference, answers),
    )


def _kind(question: str, line: PoolLine) -> AnswerKind:
    """What question, options and answers suggest.

    Letters are asked for only where the reference is one, and a text may say its answer without a marker where the
    reference is words.
    """
    answers = [*line.gold, *islice((s.answer for s in line.samples if s.answer is not None), _EVIDENCE)]
    found = AnswerKind.choice if line.options else kind_of(question, answers)
    letters = {letter(gold, line.options) for gold in line.gold}
    if found is AnswerKind.choice and letters and not any(extract(said, found, question) for said in letters):
        return AnswerKind.math
    if found is AnswerKind.math and line.gold and all(read(canonical(g)).kind is AnswerKind.text for g in line.gold):
        return AnswerKind.auto
    return found


def _answers(line: PoolLine, source: Source, reading: Reading, problem: Problem) -> list[Answer | None]:
    """What each attempt answers. A source that extracted any at a question said of the others that they have none."""
    told = source.answered and any("answer" in sample.row for sample in line.samples)
    if reading is Reading.text or (reading is Reading.auto and source.spoken and not told):
        return [_found(sample, problem) for sample in line.samples]
    if not source.bare:
        return [_given(sample, line.options, problem.answer_kind) for sample in line.samples]
    verdicts = [_verdict(source, sample) for sample in line.samples]
    return [None if verdict is None else _MEASURED[verdict] for verdict in verdicts]


def _found(sample: PoolSample, problem: Problem) -> Answer | None:
    cut = sample.row.get("finish_reason") == "length"
    return extract(sample.text or "", problem.answer_kind, problem.question, truncated=cut)


def _given(sample: PoolSample, options: Sequence[str], kind: AnswerKind) -> Answer | None:
    if sample.answer is None or is_abstention(sample.answer):
        return None
    said = letter(sample.answer, options) if kind is AnswerKind.choice else sample.answer
    return Answer(said, canonical(said, kind) or said)


def _verdict(source: Source, sample: PoolSample) -> bool | None:
    return sample.reward == 1 if source.rewards_judge and sample.reward is not None else sample.correct


async def _classed(answers: Sequence[Answer | None], kind: AnswerKind) -> list[Answer | None]:
    """The answers, equal ones under one key."""
    classes = Classes()
    await classes.add([answer for answer in answers if answer is not None], kind)
    return [answer and replace(answer, key=classes.label(answer.key)) for answer in answers]


async def _graded(problem: Problem, reference: Reference, answers: Sequence[Answer | None]) -> tuple[bool, ...]:
    """Our verdict on each answer: that on the first of its class."""
    grader = Grader(problem, reference)
    first = {answer.key: answer for answer in reversed(answers) if answer}
    verdicts = {key: await grader.right_answer(answer) for key, answer in first.items()}
    return tuple(answer is not None and verdicts[answer.key] for answer in answers)


def _traces(problem: Problem, line: PoolLine, answers: Sequence[Answer | None], *, rewards: bool) -> Iterator[Trace]:
    for number, (sample, answer) in enumerate(zip(line.samples, answers, strict=True)):
        said = sample.completion
        segment = Segment(text=said.text, origin=Origin.sampled, tokens=said.tokens, logprobs=said.logprobs)
        yield Trace(
            prompt=problem.messages,
            segments=(segment,),
            finish=said.finish,
            path=(number,),
            answer=answer,
            scores=tuple(_scores(sample, rewards=rewards)),
        )


def _scores(sample: PoolSample, *, rewards: bool) -> Iterator[Score]:
    """What judges said of an attempt, the one that knows most last; a reward that is a verdict is none."""
    if sample.perplexities:
        logs = [math.log(value) for value in sample.perplexities]
        yield Score(
            value=-math.exp(sum(logs) / len(logs)), kind="perplexity", steps=tuple(-p for p in sample.perplexities)
        )
    if sample.mean_logprob is not None:
        yield Score(value=sample.mean_logprob, kind="mean-logprob")
    for name, values in sample.scores.items():
        yield Score(value=values[-1], kind=name, steps=values if len(values) > 1 else ())
    if sample.step_scores:
        yield Score(value=sample.step_scores[-1], kind="process-reward", steps=sample.step_scores)
    if rewards and sample.reward is not None:
        yield Score(value=sample.reward, kind="outcome-reward")
