"""A reward model behind a server as an engine: requests to items, items to completions. It writes nothing."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import cast

from thinkscale.engines.dialects import Json
from thinkscale.engines.guard import tokens_of
from thinkscale.engines.http_reward.batches import Batches
from thinkscale.engines.http_reward.endpoints import APIS, Item, endpoints_of
from thinkscale.engines.http_reward.judging import Judge, Judged
from thinkscale.engines.protocol import Abort, Capabilities, Capability, Chunk, Completion, Price, Request
from thinkscale.engines.reward_shapes import SHAPES, Layout, RewardShape, shape_of
from thinkscale.engines.template import text_of
from thinkscale.engines.transport import IDLE, Transport
from thinkscale.errors import CapabilityError, EngineError, ModelError, SettingsError
from thinkscale.identity import digest
from thinkscale.registry import nearest
from thinkscale.types import Finish, Message, Usage

OPENAI_URL = "https://api.openai.com/v1"
CONCURRENCY = 256
"""Answers under judgement at once, unless said otherwise."""
_ABSENT = frozenset({400, 404, 405, 415, 422, 500, 501})
"""Statuses by which servers say that an endpoint is not there, or not for this model."""


class HttpReward:
    """A reward model behind vLLM, SGLang or a server like them.

    What waits at the same time goes as one request where the endpoint takes lists. A model of whole answers judges
    every beginning of an answer that is given in several steps; a model of steps reads the answer once, with its mark
    behind every step. One label is a reward as the model gives it, of any size; of several the probability of one is.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`; `OPENAI_BASE_URL` when absent.
        model: its name there; the only one that the server lists when absent.
        key: sent as a bearer token; `OPENAI_API_KEY` when absent.
        api: `classify`, `pooling`, `score`, `decisions`, or `auto` for the first of these that answers.
        shape: how the model reads and judges: a name in `SHAPES`, a shape of your own, or `None` to go by its name.
        template: question and answer as one text, such as `{question} {answer}`; the chat template when absent.
        label: number of the label whose probability is the reward, for models of several.
        concurrency: most answers under judgement at once.
        price: what a million tokens cost.
        idle: most seconds that the server may be silent.

    Raises:
        SettingsError: the address, the endpoint, the shape or the template is none.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        model: str | None = None,
        key: str | None = None,
        api: str = "auto",
        shape: str | RewardShape | None = None,
        template: str = "",
        label: int | None = None,
        concurrency: int = CONCURRENCY,
        price: Price | None = None,
        idle: float = IDLE,
    ) -> None:
        if api not in APIS:
            raise SettingsError(f"`api={api}` is no endpoint for rewards{nearest(api, APIS)}")
        if isinstance(shape, str) and shape not in SHAPES:
            raise SettingsError(f"`shape={shape}` is no shape of reward models{nearest(shape, [*SHAPES])}")
        if template and "{answer}" not in template:
            raise SettingsError(f"`template={template}` must say where the `{{answer}}` goes")
        if concurrency < 1:
            raise SettingsError(f"`concurrency={concurrency}` must be at least 1")
        address = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        self.transport = Transport(address, key or os.environ.get("OPENAI_API_KEY"), idle=idle)
        self._model, self._api, self._template, self._label = model, api, template, label
        self._shape = SHAPES[shape] if isinstance(shape, str) else shape
        self._concurrency, self._price = concurrency, price
        self._context: int | None = None
        self._judge: Judge | None = None
        self._batches: Batches[Item, Judged | EngineError] = Batches(self._judged)

    def __repr__(self) -> str:
        return f"HttpReward(base_url={self.transport.shown!r}, model={self._model!r}, api={self._api!r})"

    @property
    def capabilities(self) -> Capabilities:
        """Rewards and nothing else; under which name is known once the engine is open."""
        judge = self._judge
        name = judge.model if judge else self._model or ""
        # Whatever changes the numbers is part of the identity.
        how = digest(repr(judge.shape if judge else self._shape), self._template, repr(self._label))[:8]
        return Capabilities(
            model=f"{name} at {self.transport.shown} by {judge.endpoint.api if judge else self._api}, {how}",
            name=name,
            can=frozenset({Capability.rewards}),
            context=self._context,
            concurrency=self._concurrency,
            exact=False,
            price=self._price,
        )

    async def open(self) -> None:
        """Ask the server for its models and have one short answer judged: that tells which endpoint answers."""
        if self._judge is not None:
            return
        entry = await self._listed()
        name = str(entry.get("id", ""))
        self._context = tokens_of(entry.get("max_model_len")) or None
        shape = self._shape or shape_of(name) or shape_of(str(entry.get("root", ""))) or SHAPES["outcome"]
        if shape.layout is Layout.turns:
            raise SettingsError(f"`{name}` judges turn by turn, which no endpoint for rewards does: run it in process")
        self._judge = await self._found(name, str(entry.get("owned_by", "")), shape)

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Judge the steps of a request; see `Engine.stream`."""
        if not request.steps:
            raise CapabilityError(f"`{self.capabilities.name}` is a reward model and writes nothing: send it `steps`")
        await self.open()
        abort = abort or Abort()
        judging = asyncio.ensure_future(self._batches.put(self._items(request)))

        def look() -> None:
            if all(draw in abort for draw in range(request.n)):
                judging.cancel()

        try:
            with abort.watched(look):
                look()
                await asyncio.wait({judging})
            results = [] if judging.cancelled() else judging.result()
        finally:
            judging.cancel()
        for result in results:
            if isinstance(result, EngineError):
                # A copy: an exception that several tasks raise would collect the traces of all.
                raise copy(result)
        for draw in range(request.n):
            yield Chunk(draw, completion=_completion(cast(Sequence[Judged], results), first=draw == 0))

    def count(self, request: Request) -> int:
        """An upper bound of the prompt's tokens: no token is shorter than a byte."""
        shape = self._judge.shape if self._judge else self._shape or SHAPES["outcome"]
        frame = len(self._template.encode()) + len(shape.system.encode()) + 64
        return sum(item.size + 16 * len(item.turns) + frame for item in _items(request, shape, ""))

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._batches.aclose()
        await self.transport.aclose()

    async def _judged(self, items: Sequence[Item]) -> list[Judged | EngineError]:
        return await self._opened.judge(items)

    @property
    def _opened(self) -> Judge:
        if self._judge is None:
            raise EngineError(f"`{self.transport.shown}` has not been asked yet: await `open()` first")
        return self._judge

    def _items(self, request: Request) -> list[Item]:
        return _items(request, self._opened.shape, self._template)

    async def _listed(self) -> Json:
        """The entry of the model in the server's list."""
        try:
            reply = await self.transport.get("models")
        except EngineError as error:
            if error.status in _ABSENT and self._model:
                return {"id": self._model}
            raise
        data = reply.get("data") if isinstance(reply, Mapping) else None
        if not isinstance(data, list):
            raise EngineError(
                f"`{self.transport.shown}` does not list models as an OpenAI-compatible server does: check the base URL"
            )
        entries: dict[str, Json] = {str(e.get("id", "")): e for e in data if isinstance(e, Mapping)}
        if self._model:
            owner = next(iter(entries.values()), {}).get("owned_by", "")
            return entries.get(self._model) or {"id": self._model, "owned_by": owner}
        if len(entries) != 1:
            some = ", ".join(f"`{name}`" for name in [*entries][:8])
            raise ModelError(f"`{self.transport.shown}` serves {len(entries)} models: name one of {some}")
        return next(iter(entries.values()))

    async def _found(self, model: str, owner: str, shape: RewardShape) -> Judge:
        """The first endpoint that judges a short answer."""
        trial = Request(messages=(Message("user", "What is 1 + 1?"),), steps=("1 + 1 = 2.",))
        refused: list[str] = []
        for endpoint in endpoints_of(owner):
            if self._api not in ("auto", endpoint.api) or (shape.mark and endpoint.api != "pooling"):
                continue
            for path in endpoint.paths:
                judge = Judge(
                    transport=self.transport, model=model, endpoint=endpoint, path=path, shape=shape, label=self._label
                )
                [result] = await judge.judge(_items(trial, shape, self._template))
                if isinstance(result, Judged):
                    return judge
                if result.status not in _ABSENT and (result.status or result.retryable):
                    raise result
                refused.append(f"`{path}`: {result.status or result}")
        raise CapabilityError(
            f"`{model}` at `{self.transport.shown}` judges no answers: serve a reward model, or name the `api` and the "
            f"`shape` that it has ({'; '.join(refused) or 'no endpoint of this server fits'})"
        )


def _items(request: Request, shape: RewardShape, template: str) -> list[Item]:
    """What is to be judged for a request: every beginning of the answer, or all of it with its steps marked."""
    turns: list[dict[str, object]] = [{"role": m.role, "content": text_of(m)} for m in request.messages]
    if shape.system and not any(turn["role"] == "system" for turn in turns):
        turns.insert(0, {"role": "system", "content": shape.system})
    if shape.layout is Layout.prefixes:
        answers = ["".join(request.steps[: k + 1]) for k in range(len(request.steps))]
        return [_item(turns, answer, template, 1) for answer in answers]
    # A mark that the answer brings along would be taken for ours.
    steps = [step.replace(shape.mark.strip(), "").strip() + shape.mark for step in request.steps]
    if shape.layout is Layout.marked_chat:
        return [_item(turns, "".join(steps), template, len(steps))]
    return [_item(turns, "\n".join(steps), template or "{question} {answer}", len(steps))]


def _item(turns: Sequence[Mapping[str, object]], answer: str, template: str, wanted: int) -> Item:
    item = Item(turns=tuple(turns), answer=answer, wanted=wanted)
    parts = {"{question}": item.question, "{answer}": answer}
    return replace(item, text=re.sub(r"\{question\}|\{answer\}", lambda part: parts[part[0]], template))


def _completion(results: Sequence[Judged], *, first: bool) -> Completion:
    """One draw; what was read counts once for all of them."""
    return Completion(
        text="",
        finish=Finish.eos if results else Finish.aborted,
        tokens=0,
        usage=Usage(calls=1, input_tokens=sum(judged.tokens for judged in results) if first else 0),
        rewards=tuple(reward for judged in results for reward in judged.rewards),
    )
