"""Recorded draws served again, so that methods are compared on the same samples, offline and for nothing.

A request that was not recorded is an error that names it, never a call. The engine knows recordings as plain data: what
a store holds becomes a `Replay` in `thinkscale.recordings`, because engines stand below the store and know nothing of
it; a file of JSON lines is read here.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File

from thinkscale.engines.dialects.parts import legacy_logprobs
from thinkscale.engines.protocol import UNMADE, Abort, Capabilities, Capability, Chunk, Completion, Request
from thinkscale.errors import EngineError, ModelError
from thinkscale.identity import digest, prompt_name
from thinkscale.types import Finish, Logprobs, LogprobSpace, Message, Path, Problem, Sampling, Usage

VOCAB = 49152
"""Vocabulary behind recorded self-certainties whose file names none: it cancels out of what is computed from them."""
Row = tuple[int, Mapping[str, object]]
"""A line of a file: its number from 1, and its object."""
_LIVE = ("min_tokens", "logit_bias", "banned", "grammar", "thinking_budget", "response_format")
"""Settings that shape the text while it is drawn; a text that was drawn without them cannot stand for one with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Draws of one prompt."""

    prompt: str | tuple[Message, ...]
    """The messages; a text is one user message."""
    samples: tuple[Completion, ...]
    """In draw order. `rewards` of a sample are what a reward model gave its steps, or the one reward of the whole."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was asked."""
        return Problem.of(self.prompt).messages if isinstance(self.prompt, str) else self.prompt


class Replay:
    """Serves recorded draws: draw j of a prompt is its j-th recorded sample, whoever asks and in whatever order.

    How the samples were drawn is not compared with the request: temperature and the like are those of the recording.

    Args:
        path: a file of JSON lines, gzipped or not; its format is in `docs/engines.md`.
        recordings: draws that are held in memory, instead of a file or beside it; every prompt once.
        name: how a person would name what was recorded; the file's own model when empty.
        model: of a file with several models, the one to serve.
        method: of a file with several methods, the one to serve.
        run: of a file with several runs, the one to serve.

    Raises:
        ModelError: there is no recording, it cannot be read, or it holds a prompt twice.
    """

    def __init__(
        self,
        path: str | File | None = None,
        *,
        recordings: Sequence[Recording] = (),
        name: str = "",
        model: str = "",
        method: str = "",
        run: str = "",
    ) -> None:
        read: list[Recording] = []
        if path is not None:
            recorded, read = _read(File(path), {"model": model, "method": method, "run": run})
            name = name or f"{recorded} (replayed)"
        recordings = (*recordings, *read)
        if not recordings:
            raise ModelError("a replay was asked for without a recording: name a file of JSON lines, `replay:FILE`")
        self.pools: dict[str, tuple[Completion, ...]] = {}
        """Samples by the name of their prompt."""
        for recording in recordings:
            key = prompt_name(recording.messages)
            if key in self.pools:
                raise ModelError(f"the recording holds {_quoted(recording.messages)} twice: put its draws into one")
            self.pools[key] = recording.samples
        samples = [sample for pool in self.pools.values() for sample in pool]
        self._longest = max((s.tokens for s in samples), default=0)
        self._capabilities = Capabilities(
            model=f"replay-{digest(*map(repr, recordings))[:12]}",
            name=name or "replay",
            can=_can(samples),
            concurrency=1024,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What every recorded sample has."""
        return self._capabilities

    def count(self, request: Request) -> int:
        """Bytes of the prompt: no tokenizer of bytes makes more tokens of it."""
        spoken = [str(m.content) for m in request.messages] + [s.text for s in request.prefix]
        return sum(len(text.encode(errors="replace")) for text in spoken)

    async def open(self) -> None:
        """Nothing to ask."""

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Serve every draw whole, in one piece; one that was not recorded fails alone.

        Raises:
            EngineError: the prompt was not recorded, or the request is none that a recording can answer.
        """
        pool = self._pool(request)
        for index in range(request.n):
            path = request.paths[index] if request.paths else (index,)
            if abort and index in abort:
                yield Chunk(index, completion=UNMADE)
                continue
            try:
                done = _judged(pool, path, request) if request.steps else self._draw(pool, path, request)
            except EngineError as failure:
                yield Chunk(index, failure=failure)
            else:
                yield Chunk(index, done.text, done.tokens, done)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _pool(self, request: Request) -> tuple[Completion, ...]:
        asked = _quoted(request.messages)
        if request.continuation is not None:
            raise EngineError(f"the likelihood of a text after {asked} was not recorded: choose a live model for it")
        if request.prefix:
            said = "".join(s.text for s in request.prefix)
            raise EngineError(
                f"a continuation of {said[:80]!r} after {asked} was not recorded: choose a method that draws whole "
                "attempts"
            )
        pool = self.pools.get(prompt_name(request.messages))
        if pool is None:
            raise EngineError(
                f"no draws of {asked} were recorded: ask one of the {len(self.pools)} recorded prompts, word for word"
            )
        return pool

    def _draw(self, pool: Sequence[Completion], path: Path, request: Request) -> Completion:
        asked, sampling = _quoted(request.messages), request.sampling
        if not path or any(path[1:]):
            raise EngineError(
                f"draw {path} of {asked} is a fork, and recorded samples are numbered 0, 1, 2, …: nest no method that "
                "draws several attempts of its own"
            )
        if path[0] >= len(pool):
            raise EngineError(
                f"sample {path[0] + 1} of {asked} was asked for and {len(pool)} were recorded: draw {len(pool)} at most"
            )
        sample = pool[path[0]]
        if misfit := _misfit(sample, sampling):
            raise EngineError(f"sample {path[0] + 1} of {asked} {misfit}")
        cap = sampling.max_tokens
        if cap is not None and sample.tokens > cap:
            sample = self._cut(sample, cap)
        return replace(
            sample,
            logprobs=None if sampling.logprobs is None else sample.logprobs,
            usage=replace(sample.usage, calls=1, output_tokens=sample.tokens),
            rewards=(),
        )

    def _cut(self, sample: Completion, cap: int) -> Completion:
        """A sample at its cap: what it costs until then is known, and how it reads until then is not."""
        return Completion(
            text="",
            finish=Finish.length,
            tokens=cap,
            logprobs=_first(sample.logprobs, cap) if sample.logprobs else None,
            error=f"the recorded sample has {sample.tokens} tokens, which {cap} cut at an unknown place: raise "
            f"`--max-tokens` ({self._longest} serves every sample) or the budget",
        )


def _misfit(sample: Completion, sampling: Sampling) -> str | None:
    """Why a sample cannot stand for a draw under these settings, if it cannot."""
    live = [f"`{name}`" for name in _LIVE if getattr(sampling, name)]
    if live:
        return f"was recorded without {', '.join(live)}: leave that out or choose a live model"
    stops = [s for s in sampling.stop if s and s in sample.text]
    if stops:
        return f"goes on past the stop string {stops[0]!r}: leave that out or choose a live model"
    if sampling.logprobs is not None and sample.logprobs and sample.logprobs.space is not sampling.logprob_space:
        return f"has log-probabilities that are {sample.logprobs.space}, not {sampling.logprob_space}"
    return None


def _judged(pool: Sequence[Completion], path: Path, request: Request) -> Completion:
    """The recorded rewards of an answer; of equal texts that of the draw itself, else the first."""
    text, steps = "".join(request.steps), len(request.steps)
    same = [i for i, sample in enumerate(pool) if sample.text == text]
    found = next((i for i in same if (i,) == path[:1]), same[0] if same else None)
    rewards = () if found is None else pool[found].rewards
    if not rewards:
        raise EngineError(f"no rewards of the answer {text[:80]!r} to {_quoted(request.messages)} were recorded")
    if steps not in (1, len(rewards)):
        raise EngineError(
            f"rewards of {steps} steps of the answer {text[:80]!r} to {_quoted(request.messages)} were asked for and "
            f"{len(rewards)} were recorded: cut the answer at blank lines, or judge it whole"
        )
    return Completion(
        text="", finish=Finish.length, tokens=0, rewards=rewards[-1:] if steps == 1 else rewards, usage=Usage(calls=1)
    )


def _can(samples: Sequence[Completion]) -> frozenset[Capability]:
    signals = [s.logprobs for s in samples]
    offered = {
        Capability.logprobs: all(p is not None for p in signals),
        Capability.token_moments: all(p is not None and p.logsumexp and p.vocab for p in signals),
        Capability.token_entropy: all(p is not None and p.entropy for p in signals),
        Capability.top_logprobs: all(p is not None and p.top for p in signals),
        Capability.rewards: all(s.rewards for s in samples),
    }
    return frozenset(can for can, all_have in offered.items() if samples and all_have)


def _first(signals: Logprobs, tokens: int) -> Logprobs:
    return replace(
        signals,
        chosen=signals.chosen[:tokens],
        logsumexp=signals.logsumexp[:tokens],
        mean_logit=signals.mean_logit[:tokens],
        top=signals.top[:tokens],
        entropy=signals.entropy[:tokens],
    )


def _quoted(messages: Sequence[Message]) -> str:
    last = str(messages[-1].content) if messages else ""
    before = f" after {len(messages) - 1} other messages" if len(messages) > 1 else ""
    return f"`{last[:80]}{'…' if len(last) > 80 else ''}`{before}"


def _read(path: File, wanted: Mapping[str, str]) -> tuple[str, list[Recording]]:
    """The model's name and the recordings of a file of JSON lines: of one model, by one method, in one run."""
    rows = list(recorded_rows(path))
    chosen = [(number, row) for number, row in rows if _is(row, wanted)]
    sources = _sources(chosen, wanted)
    if len(sources) != 1:
        listed = "; ".join(", ".join(f"{k}={v!r}" for k, v in s) for s in (sources or _sources(rows, wanted))[:12])
        raise ModelError(f"the recording `{path}` is of {'several' if sources else 'other'} sources: choose {listed}")
    recordings: list[Recording] = []
    for number, row in chosen:
        try:
            recordings.append(_recording(row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"line {number} of the recording `{path}` is not as expected: {error!r}") from None
    return dict(sources[0]).get("model", path.name), recordings


def recorded_rows(path: File) -> Iterator[Row]:
    """The objects of a file of JSON lines, gzipped or not.

    Raises:
        ModelError: the file cannot be read, or a line of it is not a JSON object.
    """
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"the recording `{path}` cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)  # which, unlike faster ones, takes the NaN of numbers that nobody reads
        except ValueError as error:
            raise ModelError(f"line {number} of the recording `{path}` is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ModelError(f"line {number} of the recording `{path}` is not a JSON object")
        yield number, row


def _sources(rows: Sequence[Row], keys: Mapping[str, str]) -> list[tuple[tuple[str, str], ...]]:
    """Who drew the rows, as far as they say: the different models, methods and runs."""
    return list(dict.fromkeys(tuple((k, str(row[k])) for k in keys if row.get(k)) for _, row in rows))


def _is(row: Mapping[str, object], wanted: Mapping[str, str]) -> bool:
    return all(not value or str(row.get(key)) == str(value) for key, value in wanted.items())


def _recording(row: Mapping[str, object]) -> Recording:
    question, vocab = row.get("question") or row["prompt"], int(str(row.get("vocab") or VOCAB))
    samples: list[dict[str, object]] = row["samples"]  # type: ignore[assignment]
    return Recording(prompt=str(question), samples=tuple(recorded_sample(s, vocab) for s in samples))


def recorded_sample(row: Mapping[str, object], vocab: int = VOCAB) -> Completion:
    """A sample as the completion that it was; text, tokens and signals, where the recording has them."""
    text = recorded_text(row)
    if text is None:
        text = "" if row.get("answer") is None else f"The answer is {row['answer']}."
    logprobs, given = _logprobs(row, vocab), row.get("n_tokens")
    estimated = len(logprobs.chosen) if logprobs else max(1, math.ceil(len(text) / 4))
    tokens = estimated if given is None else int(str(given))
    if logprobs and len(logprobs.chosen) != tokens:
        raise ValueError(f"{len(logprobs.chosen)} log-probabilities for {tokens} tokens")
    reward = row.get("reward")
    return Completion(
        text=text,
        finish=Finish.length if row.get("finish_reason") == "length" else Finish.eos,
        tokens=tokens,
        logprobs=logprobs,
        rewards=_numbers(row.get("step_scores") or ([] if reward is None else [reward])),
    )


def recorded_text(row: Mapping[str, object]) -> str | None:
    """What a sample said: its text or that of its turns, joined; `None` where neither was recorded."""
    if row.get("text") is not None:
        return str(row["text"])
    turns: list[dict[str, str]] = row.get("turns") or []  # type: ignore[assignment]
    return "".join(turn.get("output") or "" for turn in turns) if turns else None


def _logprobs(row: Mapping[str, object], vocab: int) -> Logprobs | None:
    if not row.get("token_logprobs") and not row.get("logprobs"):
        return None
    names = ("token_logprobs", "token_self_certainty", "token_entropy")
    chosen, certainty, entropy = (_numbers(row.get(name)) for name in names)
    likeliest: list[object] = row.get("top_logprobs") or []  # type: ignore[assignment]
    alone = {"token_logprobs": [*chosen], "top_logprobs": [*map(_likely, likeliest)]}
    told = legacy_logprobs(row.get("logprobs") or alone)
    if told is None:
        return None
    chosen = told.chosen
    for found, what in ((certainty, "self-certainties"), (entropy, "entropies"), (told.top, "lists of likely tokens")):
        if len(found) not in (0, len(chosen)):
            raise ValueError(f"{len(found)} {what} for {len(chosen)} log-probabilities")
    # Self-certainty is logsumexp(z) − mean(z) − log V, and logits are free up to a constant: mean(z) = 0 is a choice.
    return replace(
        told,
        space=LogprobSpace.raw,
        logsumexp=tuple(c + math.log(vocab) for c in certainty),
        mean_logit=(0.0,) * len(certainty),
        vocab=vocab if certainty else 0,
        entropy=entropy,
    )


def _likely(entry: object) -> Mapping[str, object]:
    """The likeliest tokens at a position, which may be given by name, as pairs or as chat completions write them."""
    if isinstance(entry, dict):
        return entry
    if not isinstance(entry, list):
        raise ValueError(f"the likeliest tokens of a position are {entry!r}")
    pairs = [(e["token"], e["logprob"]) if isinstance(e, dict) else (e[0], e[1]) for e in entry]
    return {f"token_id:{token}" if isinstance(token, int) else str(token): logprob for token, logprob in pairs}


def _numbers(values: object) -> tuple[float, ...]:
    return tuple(float(v) for v in values or ())  # type: ignore[attr-defined]
