"""Any OpenAI-compatible server as an engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

from thinkscale.engines.dialects import Json
from thinkscale.engines.dialects.chat import Chat
from thinkscale.engines.dialects.completions import Completions
from thinkscale.engines.dialects.responses import Responses
from thinkscale.engines.guard import size_of, tokens_of
from thinkscale.engines.http.exchange import Endpoint, Exchange
from thinkscale.engines.http.memory import remembered
from thinkscale.engines.http.servers import LLAMACPP, UNKNOWN, Server, server_of
from thinkscale.engines.protocol import Abort, Capabilities, Capability, Chunk, Price, Request, ThinkFormat
from thinkscale.engines.think_formats import THINK_TAGS, think_format_of
from thinkscale.engines.transport import IDLE, Transport
from thinkscale.errors import CapabilityError, EngineError, ModelError, SettingsError
from thinkscale.registry import nearest
from thinkscale.types import LogprobSpace

OPENAI_URL = "https://api.openai.com/v1"
CONCURRENCY = 256
"""Draws in flight at once, where neither the caller nor the server says."""
DIALECTS: dict[str, type[Chat] | type[Completions] | type[Responses]] = {
    "chat": Chat,
    "completions": Completions,
    "responses": Responses,
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a server's list of models."""

    id: str
    owner: str
    context: int | None
    vocab: int = 0


class Http:
    """A model behind an OpenAI-compatible address.

    The n draws of a request go as one streamed request with `n`, so that the server reads the prompt once and one
    closed connection cancels all; on servers that refuse or ignore `n`, or for draws that may be aborted one by one,
    every draw is a request of its own. Logits of servers move with their load, so `exact` is false. Equal names on the
    same kind of server count as the same weights, whatever the address, so that replicas share what was sampled.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`; `OPENAI_BASE_URL` when absent.
        model: its name there; the only one that the server lists when absent.
        key: sent as a bearer token; `OPENAI_API_KEY` when absent.
        api: `chat`, `completions` (the prompt is the text as it is, no chat template) or `responses`.
        concurrency: most draws in flight at once; when absent, the slots of the server if it tells them, else 256.
        context: tokens of prompt and answer together, where the server does not say.
        think: how thinking is marked; by the model's name when absent.
        price: what a million tokens cost.
        idle: most seconds that the server may be silent.
        total: most seconds for a whole reply; `None` sets no limit.

    Raises:
        SettingsError: the address or the dialect is none.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        model: str | None = None,
        key: str | None = None,
        api: str = "chat",
        concurrency: int | None = None,
        context: int | None = None,
        think: ThinkFormat | None = None,
        price: Price | None = None,
        idle: float = IDLE,
        total: float | None = None,
    ) -> None:
        if api not in DIALECTS:
            raise SettingsError(f"`api={api}` is no dialect{nearest(api, list(DIALECTS))}")
        if concurrency is not None and concurrency < 1:
            raise SettingsError(f"`concurrency={concurrency}` must be at least 1")
        address = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        self.transport = Transport(address, key or os.environ.get("OPENAI_API_KEY"), idle=idle, total=total)
        self.api = api
        """The dialect that is spoken."""
        self._model, self._dialect = model, DIALECTS[api]()
        self._concurrency, self._context, self._think, self._price = concurrency, context, think, price
        self._endpoint: Endpoint | None = None
        self._capabilities: Capabilities | None = None
        self.server: Server = UNKNOWN
        """The kind of server, once the engine is open."""

    def __repr__(self) -> str:
        return f"Http(base_url={self.transport.shown!r}, model={self._model!r}, api={self.api!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this kind of server can do, and what was verified of this one; known once the engine is open."""
        return self._capabilities or self._described(UNKNOWN, self._model or "", self._context)

    async def open(self) -> None:
        """Ask the server for its models, once: that tells its kind and whether address and key are right."""
        if self._endpoint is not None:
            return
        listed = await self._listed()
        chosen = self._chosen(listed)
        self.server = server_of(chosen.owner)
        most, context = self.server.most, self._context or chosen.context
        if self.server is LLAMACPP:
            slots = await self._slots()
            self._concurrency, most = self._concurrency or slots, slots or 1
        capabilities = replace(self._described(self.server, chosen.id, context), vocab=chosen.vocab)
        self._capabilities = capabilities
        habits = self.server.habits
        if known := remembered(self.place):
            self._capabilities, most = replace(capabilities, can=known.can), known.most
            habits = replace(habits, prefill=known.prefill, later=known.later)
        self._endpoint = Endpoint(
            transport=self.transport,
            dialect=self._dialect,
            model=chosen.id,
            habits=habits,
            think=capabilities.think or THINK_TAGS,
            most=most,
            ending=self.server.ending,
            context=context,
        )

    @property
    def place(self) -> str:
        """Which model behind which address this is, in which dialect."""
        return f"{self.capabilities.name} at {self.transport.shown} through {self.api}"

    @property
    def endpoint(self) -> Endpoint:
        """What is known of the model on its server.

        Raises:
            EngineError: the engine is not open.
        """
        if self._endpoint is None:
            raise EngineError(f"`{self.transport.shown}` has not been asked yet: await `open()` first")
        return self._endpoint

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """See `Engine.stream`."""
        await self.open()
        self._refuse(request)
        arrived: asyncio.Queue[list[Chunk] | None] = asyncio.Queue()
        exchange = Exchange(self.endpoint, request, abort or Abort(), arrived.put_nowait)
        asking = asyncio.create_task(exchange.run())
        asking.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (chunks := await arrived.get()) is not None:
                for chunk in chunks:
                    yield chunk
            await asking
        finally:
            asking.cancel()
            await asyncio.wait({asking})
            if not asking.cancelled():
                asking.exception()  # marked as seen: whoever left does not want to know

    def count(self, request: Request) -> int:
        """An upper bound of the prompt's tokens: no token is shorter than a byte."""
        return size_of(request)

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self.transport.aclose()

    async def _listed(self) -> list[Listed]:
        """The models that the server lists; none where it has no list."""
        try:
            reply = await self.transport.get("models")
        except EngineError as error:
            if error.status in (400, 404, 405, 422, 500, 501) and self._model:
                return []
            raise
        data = reply.get("data") if isinstance(reply, Mapping) else reply
        if not isinstance(data, list):
            raise EngineError(
                f"`{self.transport.shown}` does not list models as an OpenAI-compatible server does: check the base URL"
            )
        return [_listed(entry) for entry in data if isinstance(entry, Mapping)]

    def _chosen(self, listed: Sequence[Listed]) -> Listed:
        """The model asked for, or the only one there is."""
        known = {entry.id: entry for entry in listed}
        if self._model:
            # A list need not be complete: what is not on it may still be served.
            first = next(iter(listed), Listed("", "", None))
            return known.get(self._model) or Listed(self._model, first.owner, None)
        if len(listed) == 1:
            return listed[0]
        some = ", ".join(f"`{name}`" for name in [*known][:8])
        raise ModelError(
            f"`{self.transport.shown}` serves {len(listed)} models: name one of {some}"
            if listed
            else f"`{self.transport.shown}` does not list its models: name the one to use"
        )

    def _described(self, server: Server, model: str, context: int | None) -> Capabilities:
        can = server.can
        if self.api == "completions":
            can |= {Capability.prefill}
            if server.name in ("vllm", "sglang"):
                can |= {Capability.likelihood}
        if self.api == "responses":
            can &= {Capability.json_schema, Capability.logprobs, Capability.top_logprobs}
        think = self._think or think_format_of(model)
        dialect = "" if self.api == "chat" else f" through {self.api}"
        return Capabilities(
            model=f"{model} on {server.name}{dialect}",
            name=model,
            can=can,
            context=context,
            concurrency=self._concurrency or CONCURRENCY,
            exact=False,
            think=think,
            price=self._price,
        )

    async def _slots(self) -> int | None:
        """The slots of llama.cpp's server: draws that it makes at once, and most choices of one request."""
        try:
            told = await self.transport.get("props", root=True)
        except EngineError:
            return None
        slots = told.get("total_slots") if isinstance(told, Mapping) else None
        return slots if type(slots) is int and slots > 0 else None

    def _refuse(self, request: Request) -> None:
        if request.steps:
            raise CapabilityError(f"`{self.capabilities.name}` writes text: to judge steps name a reward model")
        if request.continuation is not None and Capability.likelihood not in self.capabilities.can:
            raise CapabilityError(f"`{self.transport.shown}` does not score given texts: use `api=completions` on vLLM")
        if request.sampling.logprobs is not None and request.sampling.logprob_space is LogprobSpace.processed:
            raise CapabilityError(f"`{self.transport.shown}` reports raw log-probabilities only, not processed ones")


def _listed(entry: Json) -> Listed:
    told = entry.get("meta")
    meta = told if isinstance(told, Mapping) else {}
    context = tokens_of(entry.get("max_model_len") or meta.get("n_ctx")) or None
    return Listed(
        str(entry.get("id", "")), str(entry.get("owned_by", "")), context, tokens_of(meta.get("n_vocab")) or 0
    )
