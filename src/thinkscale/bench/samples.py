"""Recorded samples with their verdicts, as an experiment reads them from one line of a file.

The same files feed the `replay` engine, which serves texts and must not see a reference answer or a verdict. Here both
are read and nothing is served. Nothing is filled in: what a file does not say is `None` or empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from thinkscale.bench.fields import Misread, first, items, mapping, real, reals, shown, text, verdict, whole
from thinkscale.bench.options import options_of
from thinkscale.bench.references import Reference, kind_told, reference_of
from thinkscale.bench.shapes import GOLDS, GRADING, IDS, OPTIONS, QUESTIONS, SOURCES, TEXTS, VERDICTS, Shaped
from thinkscale.engines.protocol import Completion
from thinkscale.engines.replay import recorded_sample
from thinkscale.errors import BenchError
from thinkscale.types import AnswerKind

_SIGNALS = ("token_logprobs", "token_self_certainty", "token_entropy", "top_logprobs", "logprobs")
_READ = frozenset(
    {*TEXTS, *VERDICTS, *_SIGNALS, "answer", "n_tokens", "reward", "scores", "step_scores", "mean_logprob"}
)
_READ_OF_LINE = frozenset({*QUESTIONS, *IDS, *GOLDS, *GRADING, *OPTIONS, *SOURCES, "answer_kind"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSample:
    """One recorded attempt."""

    text: str | None
    """What was said; that of turns is joined."""
    answer: str | None
    """As the source extracted it, trimmed; `None` where it found none."""
    correct: bool | None
    """The source's verdict."""
    tokens: int | None
    """Generated tokens."""
    reward: float | None
    """Of the whole answer, by a reward model; larger is better."""
    step_scores: tuple[float, ...]
    """Of every step, by a process reward model."""
    mean_logprob: float | None
    """Mean log-probability of the tokens at temperature 1, in nats."""
    token_logprobs: tuple[float, ...] = ()
    """Of each token, in nats."""
    token_self_certainty: tuple[float, ...] = ()
    """KL from uniform to the next-token distribution at each token, in nats."""
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of several verifiers, by name: one number of the whole, or one of every step."""
    perplexities: tuple[float, ...] = ()
    """Of each turn that was judged, at least 1."""
    row: Mapping[str, object]
    """As recorded."""

    @property
    def rest(self) -> Mapping[str, object]:
        """Every field that is not read, as recorded."""
        return {name: value for name, value in self.row.items() if name not in _READ}

    @property
    def completion(self) -> Completion:
        """The same as the engine served it, as far as it was recorded."""
        return recorded_sample({**self.row, "text": self.text, "answer": self.answer, "n_tokens": self.tokens})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLine:
    """All recorded attempts of one source at one question."""

    question_id: str
    question: str
    """Its name where the words are not recorded."""
    reference: Reference = field(default_factory=Reference)
    options: tuple[str, ...] = ()
    """What may be chosen, without letters, where it is told apart from the question."""
    kind: AnswerKind | None = None
    """The kind of answer, where the source says so."""
    model: str = ""
    method: str = ""
    run: str = ""
    """With the values of the fields that tell pools apart."""
    samples: tuple[PoolSample, ...]
    """In draw order."""
    content: str = ""
    """A digest of its lines."""
    rest: Mapping[str, object] = field(default_factory=dict)
    """Every other field of the line, as recorded: the source's own results among them."""

    @property
    def gold(self) -> tuple[str, ...]:
        """The reference answers; several where any of them, or all together, are asked for."""
        return self.reference.gold

    @property
    def source(self) -> tuple[str, str, str]:
        """Who drew it: model, method and run."""
        return (self.model, self.method, self.run)

    @property
    def answers(self) -> tuple[str | None, ...]:
        """The answer of each sample."""
        return tuple(s.answer for s in self.samples)

    @property
    def verdicts(self) -> tuple[bool, ...]:
        """Whether each sample is correct.

        Raises:
            BenchError: the source judged no answers.
        """
        found = tuple(s.correct for s in self.samples if s.correct is not None)
        if len(found) != len(self.samples):
            raise BenchError(f"question `{self.question_id}` was recorded without verdicts: grade its answers first")
        return found


NO_ANSWER = frozenset({"", "None", "invalid"})
"""What sources write where they found no answer."""


def lines_of(shape: Shaped, by: Sequence[str] = ()) -> Iterator[PoolLine]:
    """What a line of a file holds: one question, or one for each setting of its attempts.

    Args:
        shape: the line in the common shape.
        by: fields of the line or of its attempts, of which each value is a source of its own.

    Raises:
        Misread: a field is missing or not what it has to be.
    """
    line, samples = shape.line, [_sample(*numbered) for numbered in enumerate(shape.samples)]
    question_id, question = (text(value, name) for name, value in (first(line, IDS), _asked(line)))
    if not question and not question_id:
        raise Misread("question", "is missing, and so is `question_id`: give either")
    reference = reference_of(line, None if shape.alone else line.get("answer"))
    model, method, run = (text(line.get(name), name) for name in SOURCES)
    whole_line = PoolLine(
        question_id=question_id,
        question=question or question_id,
        reference=reference,
        options=options_of(line),
        kind=kind_told(line),
        model=model,
        method=method,
        run=run,
        samples=tuple(samples),
        rest={name: value for name, value in line.items() if name not in _READ_OF_LINE},
    )
    if by:
        yield from _apart(whole_line, line, by)
    else:
        yield whole_line


def _apart(whole_line: PoolLine, line: Mapping[str, object], by: Sequence[str]) -> Iterator[PoolLine]:
    """The attempts of each setting."""
    found: dict[str, list[PoolSample]] = {}
    for sample in whole_line.samples:
        values = [(name, line.get(name, sample.row.get(name))) for name in by]
        if missing := next((name for name, value in values if value is None), ""):
            raise Misread(missing, "is missing, and the pools are to be told apart by it")
        setting = ",".join(f"{name}={text(value, name)}" for name, value in values)
        found.setdefault(setting, []).append(sample)
    for setting, samples in found.items():
        run = "/".join(part for part in (whole_line.run, setting) if part)
        yield replace(whole_line, run=run, samples=tuple(samples))


def _asked(line: Mapping[str, object]) -> tuple[str, object]:
    return first({name: value for name, value in line.items() if value != ""}, QUESTIONS)


def _sample(at: int, row: object) -> PoolSample:
    if isinstance(row, str):
        row = {"text": row}
    try:
        return _read(mapping(row, ""))
    except Misread as error:
        raise error.below(f"samples[{at}]") from None


def _read(row: Mapping[str, object]) -> PoolSample:
    get = row.get
    tokens, turns, reward = get("n_tokens"), get("turns"), get("reward")
    judged, correct = first(row, VERDICTS)
    if isinstance(reward, bool):
        judged, correct, reward = "reward", reward if correct is None else correct, None
    sample = PoolSample(
        text=_text(row, turns),
        answer=_answer(get("answer")),
        correct=verdict(correct, judged),
        tokens=None if tokens is None else whole(tokens, "n_tokens"),
        reward=real(reward, "reward"),
        step_scores=reals(get("step_scores"), "step_scores"),
        mean_logprob=real(get("mean_logprob"), "mean_logprob"),
        token_logprobs=reals(get("token_logprobs"), "token_logprobs"),
        token_self_certainty=reals(get("token_self_certainty"), "token_self_certainty"),
        scores=_scores(get("scores")) if "scores" in row else {},
        perplexities=_perplexities(row, turns) if turns or "perplexities" in row else (),
        row=row,
    )
    if sample.token_logprobs or row.get("logprobs"):
        reals(get("token_entropy"), "token_entropy")
        _check(sample)
    return sample


def _check(sample: PoolSample) -> None:
    """Refuse signals that do not belong to the tokens."""
    try:
        _ = sample.completion
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise Misread("token_logprobs" if sample.token_logprobs else "logprobs", f"cannot be read: {error}") from None


def _text(row: Mapping[str, object], turns: object) -> str | None:
    said = row.get("text")
    if isinstance(said, str):
        return said
    name, said = first(row, TEXTS)
    if said is not None:
        return text(said, name)
    if turns is None:
        return None
    parts = [mapping(turn, "turns") for turn in items(turns, "turns", lambda turn, _: turn)]
    return "".join(text(part.get("output"), "turns.output") for part in parts) if parts else None


def _answer(given: object) -> str | None:
    if given is None:
        return None
    said = given.strip() if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return None if said in NO_ANSWER else said


def _scores(given: object) -> Mapping[str, tuple[float, ...]]:
    if given is None:
        return {}
    if isinstance(given, list):
        raise Misread(
            "scores", f"is {shown(given)}: name each score in an object, or give one per step as `step_scores`"
        )
    found = {}
    for name, value in mapping(given, "scores").items():
        place = f"scores.{name}"
        if isinstance(value, list):
            if value:
                found[name] = reals(value, place)
        elif (number := real(value, place)) is not None:
            found[name] = (number,)
    return found


def _perplexities(row: Mapping[str, object], turns: object) -> tuple[float, ...]:
    if row.get("perplexities") is not None:
        found = reals(row["perplexities"], "perplexities")
    else:
        judged = [turn["ppl"] for turn in turns if isinstance(turn, dict) and "ppl" in turn]  # type: ignore[attr-defined]
        found = reals(judged, "turns.ppl")
    if any(value <= 0 for value in found):
        raise Misread("perplexities", "has one that is not above 0: give exp(−mean log-probability)")
    return found
