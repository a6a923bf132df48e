"""What goes into each step: who is let in, which tokens are decoded together, and what their logits turn into.

A step looks at aborts and closed streams, lets waiting draws in while slots and cells last, decodes one token of every
running draw together with a bounded piece of the prompts being read, and samples. Requests are let in strictly in
order of arrival, so the first one always gets the room that becomes free. It knows no threads and no event loops: news
leaves through `post`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thinkscale.engines.llamacpp.cells import Account, Strand
from thinkscale.engines.llamacpp.draws import DEFAULT_TOKENS, Draw, Item, Job, pack, prepare
from thinkscale.engines.llamacpp.layout import Cache, Work
from thinkscale.engines.llamacpp.model import Model
from thinkscale.engines.llamacpp.runtime import BATCH, Floats
from thinkscale.engines.llamacpp.sampling import Rule, Sampler
from thinkscale.engines.protocol import Chunk, Completion
from thinkscale.errors import ContextError
from thinkscale.types import Finish, LogprobSpace

SHARED_BATCH = 128
"""Most prompt tokens of a step in which draws run as well, because they wait for it."""
WORTH_WAITING = 16
"""A request waits for a step when that saves it reading this many tokens that another is reading now."""


@dataclass(slots=True)
class _Step:
    """One batch in the making: four columns, and who waits for which row of logits."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    want: list[int] = field(default_factory=list)
    rows: int = 0
    draws: list[Draw] = field(default_factory=list)
    """Row i of the logits belongs to draw i."""
    pieces: list[_Piece] = field(default_factory=list)

    def add(self, strand: Strand, tokens: Sequence[int], wanted: int) -> None:
        """Append tokens of one strand; the last `wanted` of them ask for logits."""
        at, n = len(strand.tokens), len(tokens)
        self.tokens += tokens
        self.positions += range(at, at + n)
        self.sequences += [strand.id] * n
        self.want += [0] * (n - wanted) + [1] * wanted
        self.rows += wanted


@dataclass(slots=True)
class _Piece:
    """A stretch of a prompt that is read in one step, and the rows of logits it asks for."""

    job: Job
    strand: Strand
    tokens: list[int]
    row: int
    wanted: int


class Scheduler:
    """The jobs in flight on one cache; used from one thread only."""

    def __init__(self, model: Model, cache: Cache, post: Callable[[Job, Item], None]) -> None:
        self._model, self._cache, self._post = model, cache, post
        self._sampler = Sampler(model.weights.vocab_size)
        self._ends = frozenset(model.weights.ends.tolist())
        self._longest = min(model.weights.context_trained or cache.size.cells, cache.size.cells)
        self._rules: dict[Rule, Rule] = {}
        self._running: list[Draw] = []
        self.jobs: list[Job] = []

    @property
    def _cells(self) -> Account:
        return self._cache.account

    # Arrivals and departures.

    def admit(self, job: Job) -> None:
        """Check a request and turn it into tokens and draws.

        Raises:
            EngineError: when the request as a whole cannot be served.
        """
        request, model = job.request, self._model
        prepare(job, model.weights, model.speller)
        if len(self._rules) > 256:
            self._rules.clear()
        job.plain, job.early = (self._rules.setdefault(rule, rule) for rule in (job.plain, job.early))
        job.prompt = array("i", model.prompts.encode(request))
        if request.continuation is not None:
            job.continuation = model.speller.continue_with(request.continuation, special=False)
            job.queued.clear()
        length = len(job.prompt) + len(job.continuation)
        if length >= self._longest:
            raise ContextError(
                f"the prompt has {length} tokens and the context holds {self._longest}: shorten the prompt, or give the"
                f" engine a larger `context` (the model was trained for {model.weights.context_trained})"
            )
        asked = request.sampling.max_tokens
        job.limit = max(0, min(DEFAULT_TOKENS if asked is None else asked, self._longest - length))
        self.jobs.append(job)
        if job.scores and not job.continuation:
            self._scored(job, Finish.length)
        elif not job.scores and job.limit == 0:
            self._end(list(job.queued), Finish.length)

    def start_over(self, item: Item) -> None:
        """Give every job in flight the same last news and forget all sequences."""
        for job in list(self.jobs):
            self._post(job, item)
            self._remove(job)
        for strand in list(self._cells.strands):
            self._cells.drop(strand)

    def _remove(self, job: Job) -> None:
        self.jobs.remove(job)
        for draw in [*job.queued, *job.granted, *(d for d in self._running if d.job is job)]:
            draw.close()
            if draw.strand is not None:
                self._cells.rest(draw.strand)
        self._cells.give_back(job.limit, len(job.granted))
        job.queued.clear()
        job.granted.clear()
        self._running = [d for d in self._running if d.job is not job]
        if job.reading is not None:
            self._cells.rest(job.reading)
            job.reading = None

    # One step.

    def step(self) -> None:
        """Decode one batch."""
        self._sweep()
        self._let_in()
        self._cells.settle([draw.held for draw in self._running])
        step = self._compose()
        if not step.tokens:
            return
        context = self._cache.context
        code = context.decode(step.tokens, step.positions, step.sequences, step.want)
        if code:
            self._fail(step, code)
            return
        logits = context.logits(step.rows) if step.rows else np.empty((0, self._sampler.vocabulary), np.float32)
        self._cells.charge(step.rows)
        for draw in step.draws:
            self._cells.grow(draw.held, draw.tokens[-1:])
        for piece in step.pieces:
            self._cells.grow(piece.strand, piece.tokens)
        self._sample(step.draws, logits[: len(step.draws)])
        for piece in step.pieces:
            self._advance(piece, logits[piece.row : piece.row + piece.wanted])

    def _sweep(self) -> None:
        """End the draws that nobody reads any more, and those that somebody wants ended."""
        for job in [job for job in self.jobs if job.closed]:
            self._remove(job)
        for job in [job for job in self.jobs if job.abort is not None]:
            if job.scores and job.aborts(0):
                self._scored(job, Finish.aborted)
            draws = [*job.queued, *job.granted, *(d for d in self._running if d.job is job)]
            self._end([d for d in draws if job.aborts(d.index)], Finish.aborted)

    def _compose(self) -> _Step:
        """One token of every running draw, then as much of the prompts as the step may hold."""
        step, outputs = _Step(), self._cache.outputs
        for draw in sorted(self._running, key=lambda draw: draw.held.id):
            step.draws.append(draw)
            step.add(draw.held, draw.tokens[-1:], 1)
        budget = min(SHARED_BATCH, BATCH - step.rows) if step.rows else BATCH
        for job in self.jobs:
            strand = job.reading
            if strand is None or strand.target is None or budget <= 0:
                continue
            at = len(strand.tokens)
            take = min(budget, len(strand.target) - at)
            if job.scores:
                take = min(take, max(0, len(job.prompt) - 1 - at) + outputs - step.rows)
            wanted = max(0, at + take - max(at, len(job.prompt) - 1))
            if take <= 0 or step.rows + wanted > outputs:
                continue
            tokens = strand.target[at : at + take].tolist()
            step.pieces.append(_Piece(job, strand, tokens, step.rows, wanted))
            step.add(strand, tokens, wanted)
            budget -= take
        return step

    def _advance(self, piece: _Piece, logits: Floats) -> None:
        """Use what a piece of a prompt asked for, and start what waited for its end."""
        job, strand = piece.job, piece.strand
        if job.reading is not strand:
            return
        if job.scores and piece.wanted:
            tokens = job.continuation[len(job.scored) : len(job.scored) + piece.wanted]
            job.scored += self._sampler.moments(logits, tokens, job.request.sampling.logprobs or 0)
        if strand.target is None or len(strand.tokens) < len(strand.target):
            return
        self._cells.rest(strand)
        job.reading = None
        if job.scores:
            self._scored(job, Finish.length)
            return
        job.source, strand.logits = strand, logits[-1].copy()
        self._launch(job)

    def _start(self, job: Job, draws: list[Draw]) -> None:
        """Let draws grow out of a prompt that is in the cache: each samples its first token from the same logits."""
        source = job.source
        assert source is not None
        assert source.logits is not None
        for draw in draws:
            draw.strand = self._cells.open(source, len(source.tokens), job.limit)
        self._running += draws
        self._sample(draws, np.broadcast_to(source.logits, (len(draws), len(source.logits))))

    def _sample(self, draws: Sequence[Draw], logits: Floats) -> None:
        """Sample a token for each draw from its row, group by group of equal rules, and pass on the news."""
        groups: dict[int, list[int]] = {}
        for row, draw in enumerate(draws):
            groups.setdefault(id(draw.rule), []).append(row)
        for rows in groups.values():
            members = [draws[row] for row in rows]
            whole = len(rows) == rows[-1] - rows[0] + 1
            z = logits[rows[0] : rows[-1] + 1] if whole else logits[rows]
            random = [m.random.random(2) if m.grammar else (m.random.random(), 0.0) for m in members]
            veto = self._veto(members) if any(m.grammar for m in members) else None
            found = self._sampler.draw(z, members[0].rule, [r[0] for r in random], veto, [r[1] for r in random])
            for draw, one in zip(members, found, strict=True):
                news = draw.take(one, self._model.speller, self._ends)
                if draw.finish is Finish.open:
                    self._post(draw.job, Chunk(draw.index, news, 1, logprobs=draw.latest(self._sampler.vocabulary)))
                else:
                    self._end([draw], draw.finish, news, 0 if draw.finish is Finish.error else 1)

    def _veto(self, members: list[Draw]) -> Callable[[int, int], NDArray[np.bool_] | None]:
        def veto(row: int, token: int) -> NDArray[np.bool_] | None:
            grammar = members[row].grammar
            if grammar is None or grammar.allows(token):
                return None
            return grammar.mask()

        return veto

    # Ends.

    def _end(self, draws: Sequence[Draw], finish: Finish, news: str = "", tokens: int = 0) -> None:
        """Deliver the completions of draws, wherever they stand, and free what they held."""
        for draw in draws:
            job = draw.job
            draw.finish = finish
            if draw in job.granted:
                job.granted.remove(draw)
                self._cells.give_back(job.limit)
            elif draw.strand is None:
                job.queued.remove(draw)
            else:
                self._running.remove(draw)
                self._cells.rest(draw.strand)
            rest, completion = draw.complete(self._model.speller, self._sampler.vocabulary)
            self._deliver(job, Chunk(draw.index, news + rest, tokens, completion))

    def _scored(self, job: Job, finish: Finish, error: str | None = None) -> None:
        """Deliver the log-probabilities of a given text."""
        if job.reading is not None:
            self._cells.rest(job.reading)
            job.reading = None
        whole = finish is Finish.length
        sampling, text = job.request.sampling, job.request.continuation or ""
        for index in range(job.request.n):
            completion = Completion(
                text=text if whole else "",
                finish=finish,
                tokens=0,
                token_ids=tuple(job.continuation) if whole else (),
                logprobs=pack(job.scored, sampling, LogprobSpace.raw, self._sampler.vocabulary),
                usage=job.bill(index, 0),
                error=error,
            )
            self._deliver(job, Chunk(index, completion=completion))

    def _deliver(self, job: Job, chunk: Chunk) -> None:
        self._post(job, chunk)
        job.left -= 1
        if job.left == 0:
            self._post(job, None)
            self._remove(job)

    def _fail(self, step: _Step, code: int) -> None:
        """End everything that was in a batch which could not be decoded; the rest goes on."""
        error = f"llama.cpp could not decode a batch of {len(step.tokens)} tokens (code {code})"
        for draw in step.draws:
            draw.error = error
            self._end([draw], Finish.error)
            self._cells.drop(draw.held)
        for piece in step.pieces:
            job = piece.job
            for draw in job.granted:
                draw.error = error
            self._end(list(job.granted), Finish.error)
            job.reading = None
            self._cells.drop(piece.strand)
            if job.scores:
                self._scored(job, Finish.error, error)

    # Room.

    def _let_in(self) -> None:
        """Give room to waiting draws, first come first served."""
        busy = len(self._running) + sum(len(j.granted) + (j.scores and j.reading is not None) for j in self.jobs)
        for job in list(self.jobs):
            if job.waits and not self._suits(job):
                return
            while job.waits and busy < self._cache.size.slots and self._grant(job):
                busy += 1
            waits = job.waits
            if job.granted and job.reading is None:
                self._launch(job)
            if waits:
                return

    def _suits(self, job: Job) -> bool:
        """Whether the layout of the cache has room for a job; it is chosen anew when nobody uses it."""
        if not self._running and not any(j.granted or j.reading is not None for j in self.jobs):
            self._cache.arrange([Work(j.most, len(j.queued) * j.limit, j.limit) for j in self.jobs if j.waits])
        return self._cells.fits(job.most)

    def _launch(self, job: Job) -> None:
        """Turn the room set aside for draws into running draws."""
        draws, job.granted = job.granted, []
        self._cells.give_back(job.limit, len(draws))
        self._start(job, draws)

    def _grant(self, job: Job) -> bool:
        """Set room aside for one more draw of a job, and for its prompt if that is not at hand."""
        if job.source is not None and not job.source.alive:
            job.source = None
        if job.source is None and job.reading is None:
            return self._begin(job)
        if not self._cells.make_room(job.limit, keep=job.source):
            return False
        self._cells.set_aside(job.limit)
        job.granted.append(job.queued.popleft())
        return True

    def _begin(self, job: Job) -> bool:
        """Find as much of a job's prompt in the cache as there is and start to read the rest."""
        text = job.prompt + array("i", job.continuation)
        source, known = self._cells.best_match(text)
        if job.scores:
            # The last token predicts nothing that is asked for; the one before the continuation predicts its first.
            text, known = text[:-1], min(known, len(job.prompt) - 1)
        if self._cells.coming(text) >= known + WORTH_WAITING:
            return False
        job.cached = known if job.cached is None else job.cached
        if known == len(text) and not job.scores:
            job.source = source
            return self._grant(job)
        strand = self._cells.begin(source, known, len(text) - known, None if job.scores else job.limit)
        if strand is None:
            return False
        strand.target, job.reading = text, strand
        if not job.scores:
            self._cells.set_aside(job.limit)
            job.granted.append(job.queued.popleft())
        return True
