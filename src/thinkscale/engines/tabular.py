"""An exact Markov model: every probability, entropy and hazard has a closed form that tests can assert.

The next token depends on the last one alone. Sampling is written the slow obvious way, in double precision, so it is
also what faster samplers are compared with.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Mapping

from thinkscale.engines.protocol import GENERATES, Abort, Capabilities, Capability, Chunk, Completion, Request
from thinkscale.errors import EngineError
from thinkscale.identity import digest
from thinkscale.types import Finish, Logprobs, LogprobSpace, Sampling, Usage

START, END = "", "<end>"

TOY: Mapping[str, Mapping[str, float]] = {
    START: {"The answer is": 1.0},
    "The answer is": {" 4": 0.5, " 5": 0.3, " 6": 0.2},
    " 4": {END: 1.0},
    " 5": {END: 1.0},
    " 6": {END: 1.0},
}
"""A model whose answers have the probabilities 0.5, 0.3 and 0.2."""


class Tabular:
    """A first-order Markov chain over tokens.

    Args:
        table: token → {next token: probability}. The row `""` starts a turn, `"<end>"` ends it, rows sum to 1, and a
            token without a row continues from the start row.
        pause: yield to the event loop after every token, so that draws can be watched and aborted.

    Raises:
        ValueError: a row does not sum to 1.
    """

    def __init__(self, table: Mapping[str, Mapping[str, float]] = TOY, *, pause: bool = False) -> None:
        for token, row in table.items():
            if abs(math.fsum(row.values()) - 1) > 1e-9 or min(row.values()) < 0:
                raise ValueError(f"the probabilities after {token!r} do not sum to 1")
        self.table = {token: dict(row) for token, row in table.items()}
        self.pause = pause
        after = {token for row in self.table.values() for token in row}
        self.vocabulary = sorted((set(self.table) | after | {END}) - {START})
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        can = GENERATES - {Capability.grammar, Capability.json_schema}
        self._capabilities = Capabilities(model=f"tabular-{digest(repr(self.table))[:12]}", name="tabular", can=can)

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do: all that needs no grammar."""
        return self._capabilities

    def row(self, token: str) -> dict[str, float]:
        """The next-token distribution after a token."""
        return self.table.get(token, self.table[START])

    def probability(self, text: str) -> float:
        """Probability that a turn is exactly this text."""
        tokens = [*self.tokens(text), END]
        before = [START, *tokens[:-1]]
        return math.prod(self.row(a).get(b, 0.0) for a, b in zip(before, tokens, strict=True))

    def entropy(self, token: str) -> float:
        """Entropy of the next-token distribution, in nats."""
        return _entropy(self._logits(token))

    def hazard(self, token: str, end: str = END) -> float:
        """Probability that the turn ends right after a token."""
        return self.row(token).get(end, 0.0)

    def self_certainty(self, token: str) -> float:
        """KL(U ‖ p) of the next-token distribution, in nats; infinite when a token has probability 0."""
        z = self._logits(token)
        return -math.fsum(z) / len(z) - math.log(len(z))

    def tokens(self, text: str) -> list[str]:
        """The text in the longest tokens that fit, from the left.

        Raises:
            EngineError: some of it is in no token.
        """
        found: list[str] = []
        while text:
            fits = [t for t in self.vocabulary if t != END and text.startswith(t)]
            if not fits:
                raise EngineError(f"no token of the table starts {text[:40]!r}")
            found.append(max(fits, key=len))
            text = text[len(found[-1]) :]
        return found

    def count(self, request: Request) -> int:
        """Words of the messages and tokens of the prefix."""
        words = sum(len(str(m.content).split()) for m in request.messages)
        given = len(self._known(request.continuation or ""))
        return words + given + sum(len(s.token_ids) or len(self._known(s.text)) for s in request.prefix)

    async def open(self) -> None:
        """Nothing to ask."""

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Draw from the chain, continuing from the last token of the prefix."""
        abort = abort or Abort()
        prompt = self.count(request)
        spoken = self._known(request.prefix[-1].text) if request.prefix else []
        last = spoken[-1] if spoken else START
        for index, seed in enumerate(request.seeds):
            shared = prompt if index == 0 else 0
            if request.continuation is not None:
                yield Chunk(index, completion=self._scored(last, request, shared))
                continue
            draw = _Draw(self, last, request.sampling, seed)
            while draw.finish is None:
                if index in abort:
                    draw.finish = Finish.aborted
                    break
                draw.step()
                if self.pause:
                    yield Chunk(index, tokens=1, logprobs=draw.signals(-1) if request.apart else None)
                    await asyncio.sleep(0)
            yield Chunk(index, draw.text, 0 if self.pause else draw.sampled, draw.completion(shared))

    async def aclose(self) -> None:
        """Nothing to release."""

    def _known(self, text: str) -> list[str]:
        # Injected text need not be in the table: then the chain starts afresh after it.
        try:
            return self.tokens(text)
        except EngineError:
            return []

    def _logits(self, token: str) -> list[float]:
        row = self.row(token)
        return [math.log(row[t]) if row.get(t, 0.0) > 0 else -math.inf for t in self.vocabulary]

    def _scored(self, last: str, request: Request, prompt: int) -> Completion:
        tokens = self.tokens(request.continuation or "")
        before = [last, *tokens]
        chosen = tuple(self._logits(a)[self._ids[b]] for a, b in zip(before, tokens, strict=False))
        spread = tuple(self.entropy(a) for a, _ in zip(before, tokens, strict=False))
        signals = Logprobs(space=LogprobSpace.raw, chosen=chosen, vocab=len(self.vocabulary), entropy=spread)
        usage = Usage(calls=1, input_tokens=prompt)
        return Completion(
            text=request.continuation or "", finish=Finish.length, tokens=0, logprobs=signals, usage=usage
        )


class _Draw:
    """One draw: state, random stream and what has been said."""

    def __init__(self, model: Tabular, last: str, sampling: Sampling, seed: int) -> None:
        self.model, self.last, self.sampling = model, last, sampling
        self.random = random.Random(seed)
        self.text = ""
        self.ids: list[int] = []
        self.sampled = 0
        self.finish: Finish | None = Finish.length if sampling.max_tokens == 0 else None
        self.stop_string: str | None = None
        self.chosen: list[float] = []
        self.sums: list[float] = []
        self.means: list[float] = []
        self.entropies: list[float] = []
        self.top: list[tuple[tuple[int, float], ...]] = []

    def step(self) -> None:
        """Sample one token and see whether the draw has ended."""
        raw = self.model._logits(self.last)
        processed = processed_logits(raw, self.sampling, self._banned())
        token = self._pick(processed)
        self._note(raw if self.sampling.logprob_space is LogprobSpace.raw else processed, token)
        self.sampled += 1
        self.last = self.model.vocabulary[token]
        if self.last == END:
            self.finish = Finish.eos
            return
        self.ids.append(token)
        self.text += self.last
        stops = [(self.text.find(s), s) for s in self.sampling.stop if s in self.text]
        if stops:
            at, self.stop_string = min(stops)
            self.text, self.finish = self.text[:at], Finish.stop
        elif self.sampled == self.sampling.max_tokens:
            self.finish = Finish.length

    def completion(self, prompt: int) -> Completion:
        """The draw as it ended."""
        spelled = "".join(self.model.vocabulary[i] for i in self.ids) == self.text
        return Completion(
            text=self.text,
            finish=self.finish or Finish.aborted,
            tokens=self.sampled,
            stop_string=self.stop_string,
            token_ids=tuple(self.ids) if spelled else (),
            logprobs=self.signals(),
            usage=Usage(calls=1, input_tokens=prompt, output_tokens=self.sampled),
        )

    def _banned(self) -> set[int]:
        banned = {self.model._ids[t] for t in self.sampling.banned if t in self.model._ids}
        possible = {self.model._ids[t] for t, p in self.model.row(self.last).items() if p > 0}
        early = self.sampled < self.sampling.min_tokens and possible - banned != {self.model._ids[END]}
        return banned | {self.model._ids[END]} if early else banned

    def _pick(self, z: list[float]) -> int:
        if self.sampling.temperature == 0:
            return z.index(max(z))
        target = self.random.random()
        total = 0.0
        for token, logit in enumerate(z):
            total += math.exp(logit)
            if target < total:
                return token
        return max(range(len(z)), key=z.__getitem__)

    def _note(self, z: list[float], token: int) -> None:
        if self.sampling.logprobs is None:
            return
        best = sorted(range(len(z)), key=lambda i: (-z[i], i))[: self.sampling.logprobs]
        alive = [x for x in z if self.sampling.logprob_space is LogprobSpace.raw or x > -math.inf]
        self.chosen.append(z[token])
        self.sums.append(0.0)
        self.means.append(math.fsum(alive) / len(alive))
        self.entropies.append(_entropy(z))
        self.top.append(tuple((i, z[i]) for i in best))

    def signals(self, start: int = 0) -> Logprobs | None:
        """What is known of the tokens from one on; `None` unless it was asked for."""
        if self.sampling.logprobs is None:
            return None
        return Logprobs(
            space=self.sampling.logprob_space,
            chosen=tuple(self.chosen[start:]),
            logsumexp=tuple(self.sums[start:]),
            mean_logit=tuple(self.means[start:]),
            vocab=len(self.model.vocabulary),
            top=tuple(self.top[start:]) if self.sampling.logprobs else (),
            entropy=tuple(self.entropies[start:]),
        )


def processed_logits(raw: list[float], sampling: Sampling, banned: set[int]) -> list[float]:
    """Normalised log-probabilities after bias, bans, temperature, top-k, top-p and min-p, in that order."""
    z = [x + sampling.logit_bias.get(i, 0.0) if i not in banned else -math.inf for i, x in enumerate(raw)]
    if max(z) == -math.inf:
        raise EngineError("every token of the vocabulary is banned here")
    temperature = sampling.temperature if sampling.temperature is not None else 1.0
    p = _softmax([x / temperature for x in z] if temperature else z)
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))[: sampling.top_k or len(p)]
    if sampling.top_p is not None:
        whole, total, kept = math.fsum(p[i] for i in order), 0.0, []
        for i in order:
            kept.append(i)
            total += p[i]
            if total >= sampling.top_p * whole:
                break
        order = kept
    keep = {i for i in order if p[i] >= (sampling.min_p or 0.0) * max(p)}
    q = _softmax([math.log(x) if i in keep and x > 0 else -math.inf for i, x in enumerate(p)])
    return [math.log(x) if x > 0 else -math.inf for x in q]


def _entropy(log_p: list[float]) -> float:
    return -math.fsum(math.exp(x) * x for x in log_p if x > -math.inf)


def _softmax(z: list[float]) -> list[float]:
    highest = max(z)
    weights = [math.exp(x - highest) for x in z]
    total = math.fsum(weights)
    return [w / total for w in weights]
