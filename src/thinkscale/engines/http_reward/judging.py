"""From items to rewards: as few requests as a server allows, and the numbers in its replies. It knows no sessions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import TypeVar, cast

from thinkscale.engines.guard import PROMPT, tokens_of
from thinkscale.engines.http_reward.endpoints import Endpoint, Item, Rows
from thinkscale.engines.reward_shapes import Layout, RewardShape, Verdict
from thinkscale.engines.transport import Transport
from thinkscale.errors import EngineError

T = TypeVar("T")

BATCH = 32
"""Most items in one request."""
_REFUSED = frozenset({400, 413, 422})
"""Statuses by which a server refuses what a request says, and not the request."""
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one item."""

    rewards: tuple[float, ...]
    tokens: int
    """Prompt tokens that the server read for it."""


@dataclass(slots=True, kw_only=True)
class Judge:
    """One endpoint of a server, and what its numbers mean."""

    transport: Transport
    model: str
    endpoint: Endpoint
    path: str
    shape: RewardShape
    label: int | None = None
    """Whose probability is the reward, where there are several; `None` is the second of two."""
    _normalized: bool | None = field(init=False, default=None)
    """Whether the server applies the softmax, although raw numbers are asked for: older ones do. The first tells."""
    _mark: list[int] = field(init=False, default_factory=list)
    """Id of the last token of the shape's mark, once it was needed."""

    async def judge(self, items: Sequence[Item]) -> list[Judged | EngineError]:
        """The rewards of each item, in order, or why there are none; what may share a request does."""
        put = await _each(self._put(item) for item in items)
        found: dict[int, Judged | EngineError] = {i: p for i, p in enumerate(put) if isinstance(p, EngineError)}
        groups = self._grouped([(i, item) for i, item in enumerate(put) if isinstance(item, Item)])
        results = await _each(self._together([item for _, item in group]) for group in groups)
        for group, judged in zip(groups, results, strict=True):
            found |= {number: result for (number, _), result in zip(group, judged, strict=True)}
        return [found[number] for number in range(len(items))]

    async def _put(self, item: Item) -> Item | EngineError:
        """The item as the endpoint takes it."""
        if item.text or not self.endpoint.by_ids:
            return item
        try:
            return replace(item, ids=tuple(await self._tokens({"messages": item.chat})))
        except EngineError as error:
            return error

    def _grouped(self, items: Sequence[tuple[int, Item]]) -> list[list[tuple[int, Item]]]:
        """The items that go together."""
        groups: list[list[tuple[int, Item]]] = []
        for shared, run in groupby(items, key=lambda numbered: self.endpoint.lists(numbered[1])):
            alike, size = list(run), BATCH if shared else 1
            groups += [alike[at : at + size] for at in range(0, len(alike), size)]
        return groups

    async def _together(self, items: Sequence[Item]) -> list[Judged | EngineError]:
        """One request; one that the server refuses is halved, so that the fault of one item is not that of all."""
        try:
            body = {"model": self.model, **self.endpoint.body(items)}
            reply = await self.transport.post(self.path.lstrip("/"), body, root=self.path.startswith("/"))
            rows, tokens = self._read(reply, items)
        except EngineError as refusal:
            if len(items) == 1 or refusal.status not in _REFUSED:
                return [refusal for _ in items]
            half = len(items) // 2
            first, second = await _each(self._together(part) for part in (items[:half], items[half:]))
            return [*first, *second]
        return await _each(self._judged(*of) for of in zip(items, rows, tokens, strict=True))

    def _read(self, reply: object, items: Sequence[Item]) -> tuple[list[Rows], list[int]]:
        try:
            rows = self.endpoint.rows(reply)
            sizes = [item.size for item in items]
            tokens = self.endpoint.counts(reply) or _shares(_prompt_tokens(reply), sizes)
            tokens = [max(0, min(told, PROMPT + size)) for told, size in zip(tokens, sizes, strict=False)]
        except _MALFORMED as error:
            raise self._error(f"sent a reply that is none of its kind ({type(error).__name__}: {error})") from None
        if not len(rows) == len(tokens) == len(items):
            raise self._error(f"was asked about {len(items)} answers and judged {len(rows)}")
        return rows, tokens

    async def _judged(self, item: Item, rows: Rows, tokens: int) -> Judged | EngineError:
        try:
            if self.shape.layout is Layout.prefixes:
                rows = rows[-1:]
            elif item.wanted != len(rows):
                rows = await self._at_marks(item, rows)
            if len(rows) != item.wanted or not all(row and all(map(math.isfinite, row)) for row in rows):
                raise self._error("gave no number: name the `shape` that the model was trained with")
            return Judged(tuple(self._number(row) for row in rows), tokens)
        except EngineError as error:
            return error

    async def _at_marks(self, item: Item, rows: Rows) -> Rows:
        """The rows at the marks, of a server that gives one for each token."""
        ids = await self._tokens({"prompt": item.text} if item.text else {"messages": item.chat})
        self._mark = self._mark or (await self._tokens({"prompt": self.shape.mark, "add_special_tokens": False}))[-1:]
        at = [place for place, token in enumerate(ids) if [token] == self._mark][-item.wanted :]
        if len(ids) != len(rows) or len(at) != item.wanted:
            raise self._error(
                f"gave {len(rows)} numbers for {item.wanted} steps in {len(ids)} tokens, {len(at)} of them the mark "
                f"`{self.shape.mark}`: name the `shape` that the model was trained with"
            )
        return [rows[place] for place in at]

    async def _tokens(self, put: Mapping[str, object]) -> list[int]:
        chat = {"add_generation_prompt": False} if "messages" in put else {}
        reply = await self.transport.post("tokenize", {"model": self.model, **put, **chat}, root=True)
        try:
            return [int(token) for token in cast(Mapping[str, list[int]], reply)["tokens"]]
        except _MALFORMED:
            raise EngineError(
                f"`/tokenize` of `{self.transport.shown}` gives no tokens, which this way of judging needs: choose "
                "another `api`"
            ) from None

    def _number(self, row: Sequence[float]) -> float:
        """What the numbers at one place come down to."""
        if len(row) == 1:
            return row[0] if self.shape.verdict is Verdict.score else _probability(row[0])
        label = self.label
        if label is None:
            if len(row) > 2:
                raise self._error(f"gives {len(row)} labels: say by `label` whose probability is the reward")
            # Of two words vLLM is told the good one first, as the model's own example does.
            label = 0 if self.shape.verdict is Verdict.word else 1
        if not 0 <= label < len(row):
            raise self._error(f"gives {len(row)} labels, none of which has the number {label}")
        if self._normalized is None:
            self._normalized = min(row) >= 0 and abs(math.fsum(row) - 1) < 1e-5
        return row[label] if self._normalized else _softmax(row)[label]

    def _error(self, said: str) -> EngineError:
        return EngineError(f"`{self.path}` of `{self.transport.shown}` {said}")


async def _each(work: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """The results of coroutines that raise nothing, run at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in work]
    return [task.result() for task in tasks]


def _probability(logit: float) -> float:
    """The sigmoid, without overflow."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def _softmax(row: Sequence[float]) -> list[float]:
    top = max(row)
    parts = [math.exp(number - top) for number in row]
    return [part / math.fsum(parts) for part in parts]


def _prompt_tokens(reply: object) -> int:
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    told = (usage.get("prompt_tokens") or usage.get("input_tokens")) if isinstance(usage, Mapping) else None
    return tokens_of(told) or 0


def _shares(total: int, sizes: Sequence[int]) -> list[int]:
    """A whole number divided in proportion to sizes; the shares add up to it."""
    whole, seen, ends = sum(sizes) or 1, 0, [0]
    for size in sizes:
        seen += size
        ends.append(total * seen // whole)
    return [b - a for a, b in pairwise(ends)]
