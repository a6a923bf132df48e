"""Servers of reward models as vLLM and SGLang are, in what they take and in how their replies look.

What is judged is read by `verdict`; a token is a word, and every token that is no mark has an id of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from socket import create_server, socket

import orjson
from aiohttp import web

MARK = "<extra_0>"


def good_words(text: str) -> float:
    """A verdict: how often the text says `good`, less how often it says `bad`."""
    return float(text.count("good") - text.count("bad"))


@dataclass(slots=True, kw_only=True)
class RewardServer:
    """A server with some endpoints. Those of vLLM, unless `owner` is `sglang`.

    Args:
        serves: paths that exist, among `PATHS`.
        labels: the numbers that the model gives a text, before any activation.
        tokenwise: whether `/pooling` gives a row for every token instead of for every mark.
        most: longest text that fits, in characters; a request with a longer one is refused as a whole.
        failures: statuses of the next requests for rewards, before anything is looked at.
        go: what replies wait for.
    """

    serves: tuple[str, ...] = ("/classify",)
    owner: str = "vllm"
    model: str = "judge"
    models: int = 1
    key: str = ""
    labels: Callable[[str], list[float]] = lambda text: [good_words(text)]
    tokenwise: bool = False
    most: int = 10_000
    failures: list[int] = field(default_factory=list)
    garbles: object = None
    go: asyncio.Event | None = None
    seen: list[tuple[str, dict]] = field(default_factory=list)
    """Path and body of every request but those for the list of models and for tokens."""
    tokenized: list[dict] = field(default_factory=list)
    left: int = 0
    """Requests whose client went away."""
    url: str = ""
    _ids: dict[str, int] = field(default_factory=dict)
    _next: count = field(default_factory=lambda: count(1))

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        for path in self.serves:
            app.router.add_post(path, self._judge)
        return app

    def forget(self) -> None:
        """Leave out what opening an engine asked."""
        self.seen.clear()
        self.tokenized.clear()

    async def _models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        names = [self.model, *(f"other-{i}" for i in range(1, self.models))]
        entries = [{"id": n, "object": "model", "owned_by": self.owner, "max_model_len": 4096} for n in names]
        return web.json_response({"object": "list", "data": entries})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.tokenized.append(body)
        text = body["prompt"] if "prompt" in body else self._chat(body)
        ids = self._tokens(text)
        if body.get("add_special_tokens", "prompt" in body):
            ids = [0, *ids]
        return web.json_response({"count": len(ids), "max_model_len": 4096, "tokens": ids})

    async def _judge(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.seen.append((request.path, body))
        try:
            if self.go:
                await self.go.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        if self.failures:
            status = self.failures.pop(0)
            return self._refusal(status, "no")
        if self.garbles is not None:
            return web.json_response(self.garbles)
        route = request.path.rpartition("/")[2]
        if body.get("model") != self.model:
            return self._refusal(404, f"The model `{body.get('model')}` does not exist.")
        try:
            answer = getattr(self, f"_{self.owner}_{route}")(body)
        except (KeyError, AssertionError) as error:
            return self._refusal(400, f"cannot read the request: {error!r}")
        except OverflowError:
            return self._refusal(400, "This model's maximum context length is 10 tokens.")
        return web.json_response(answer)

    def _refusal(self, status: int, said: str) -> web.Response:
        told = {"message": said, "type": "BadRequestError", "param": None, "code": status}
        return web.json_response(
            {"error": told} if self.owner == "vllm" else {"object": "error", **told}, status=status
        )

    def _chat(self, body: dict) -> str:
        assert not body.get("add_generation_prompt", True)
        return "".join(f"<|{m['role']}|> {m['content']} <|end|> " for m in body["messages"])

    def _tokens(self, text: str) -> list[int]:
        words = text.replace(MARK, f" {MARK} ").split()
        return [self._ids.setdefault(word, next(self._next)) for word in words]

    def _put(self, body: dict) -> list[str]:
        if "messages" in body:
            assert "input" not in body
            texts = [self._chat(body)]
        else:
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return self._fitting(texts)

    def _fitting(self, texts: list[str]) -> list[str]:
        if any(len(text) > self.most for text in texts):
            raise OverflowError
        return texts

    def _usage(self, texts: list[str]) -> dict:
        tokens = sum(len(self._tokens(text)) + 1 for text in texts)
        return {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}

    def _vllm_classify(self, body: dict) -> dict:
        assert body["use_activation"] is False
        texts = self._put(body)
        rows = [self.labels(text) for text in texts]
        data = [{"index": i, "label": "LABEL_0", "probs": r, "num_classes": len(r)} for i, r in enumerate(rows)]
        named = {"id": "classify-1", "object": "list", "created": 1, "model": self.model}
        # Entries say their place, so their order is free.
        return {**named, "data": data[::-1], "usage": self._usage(texts)}

    def _vllm_pooling(self, body: dict) -> dict:
        assert body["use_activation"] is False
        texts = self._put(body)
        data = [{"index": i, "object": "pooling", "data": self._pooled(text)} for i, text in enumerate(texts)]
        named = {"id": "pool-1", "object": "list", "created": 1, "model": self.model}
        return {**named, "data": data, "usage": self._usage(texts)}

    def _pooled(self, text: str) -> list:
        mark = next((m for m in (MARK, "ки") if m in text), None)
        if mark is None:
            return self.labels(text)
        places = [["<s>"], *([w] for w in text.replace(mark, f" {mark} ").split())]
        said, rows = "", []
        for [word] in places:
            said += f" {word}"
            if word == mark or self.tokenwise:
                rows.append(self.labels(said if word == mark else ""))
        # Chats have no token in front.
        return rows[1:] if self.tokenwise and "<|end|>" in text else rows

    def _vllm_score(self, body: dict) -> dict:
        firsts, seconds = body["text_1"], body["text_2"]
        assert len(firsts) == len(seconds)
        texts = self._fitting([f"{a} {b}" for a, b in zip(firsts, seconds, strict=True)])
        data = [{"index": i, "object": "score", "score": self.labels(t)[0]} for i, t in enumerate(texts)]
        named = {"id": "embd-1", "object": "list", "created": 1, "model": self.model}
        return {**named, "data": data, "usage": self._usage(texts)}

    def _vllm_decisions(self, body: dict) -> dict:
        assert set(body) == {"model", "input", "questions"}
        [question] = body["questions"]
        assert question["type"] == "predicate"
        assert question["instructions"]
        answer = {"type": "predicate", "name": None, "probability": self.labels(body["input"])[0]}
        usage = {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 9,
        }
        return {"model": self.model, "answers": [answer], "usage": usage}

    def _sglang_classify(self, body: dict) -> list:
        if "text" in body:
            texts = self._fitting(body["text"])
        else:
            words = {number: word for word, number in self._ids.items()}
            texts = self._fitting([" ".join(words[i] for i in ids) for ids in body["input_ids"]])
        counts = [len(self._tokens(t)) for t in texts]
        return [
            {"embedding": self.labels(t), "meta_info": {"id": "x", "prompt_tokens": n, "e2e_latency": 0.1}}
            for t, n in zip(texts, counts, strict=True)
        ]

    def _sglang_decisions(self, body: dict) -> dict:
        assert set(body) == {"model", "input", "questions"}
        [question] = body["questions"]
        assert set(question) == {"id", "type", "question"}
        assert question["type"] == "yes_no"
        yes = self.labels(body["input"])[0]
        answer = {"type": "yes_no", "probabilities": {"yes": yes, "no": 1 - yes}, "label_mass": 0.9}
        named = {"object": "decisions", "model": self.model, "prompt_format_version": 1}
        return {**named, "answers": {question["id"]: answer}, "usage": {"prompt_tokens": 9, "total_tokens": 9}}


@asynccontextmanager
async def judging(server: RewardServer, place: socket | None = None) -> AsyncIterator[RewardServer]:
    """Run a server in this event loop on the loopback address; its address is `server.url`.

    Args:
        server: what it does.
        place: a socket that listens already, and goes on doing so when the server has ended.
    """
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.SockSite(runner, place.dup() if place else create_server(("127.0.0.1", 0))).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()
