"""From the flags of `thinkscale serve` to engines, and the bound on draws that each upstream has."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from servers.gateway import launched
from servers.mock import Mock, serving
from thinkscale.cli.serve import _engines, _models, _plain
from thinkscale.engines.llamacpp import LlamaCpp
from thinkscale.engines.pool import Pool
from thinkscale.engines.weights import default_weights
from thinkscale.errors import ThinkscaleError
from thinkscale.serve.asking import Limits, asked
from thinkscale.serve.profiles import Menu
from thinkscale.serve.records import Api
from thinkscale.serve.runs import Runs
from thinkscale.serve.wire import refusal_of
from thinkscale.settings import Settings

ASKED = {
    "model": "mock+self-consistency(n=3, stop=fixed)",
    "messages": [{"role": "user", "content": "What is 40 + 2?"}],
}


class Counting(Mock):
    """Knows how many draws it had in flight at most."""

    running = most_running = 0

    async def respond(self, request, served):
        self.running += served.body.get("n") or 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await super().respond(request, served)
        finally:
            self.running -= served.body.get("n") or 1


@pytest.mark.parametrize(
    ("upstream", "model", "named"),
    [
        (None, None, None),
        ("http://a/v1", None, "http://a/v1"),
        (None, "m,judge=x", "m,judge=x"),
        ("http://a/v1,http://b/v1", "m", "http://a/v1#m,http://b/v1#m"),
        ("http://a/v1,http://b/v1", "m,judge=x", "http://a/v1#m,http://b/v1#m,judge=x"),
        ("http://a/v1", "judge=http(base_url='b')", "http://a/v1,judge=http(base_url='b')"),
    ],
)
def test_every_upstream_has_the_model_that_is_named(upstream, model, named):
    assert _models(upstream, model) == named


async def test_each_upstream_has_its_bound_whatever_is_asked_of_it():
    async with AsyncExitStack() as stack:
        first, second, third = [(await stack.enter_async_context(serving(Mock()))).url for _ in range(3)]
        settings = Settings(model=f"{first}#mock,{second}#mock,judge={third},critic={third}")
        main, roles = await asyncio.to_thread(_engines, settings, 3)
        plain = (await asyncio.to_thread(_plain, settings, main, 3))["mock"]
    assert isinstance(main, Pool)
    assert isinstance(plain, Pool)
    assert [limit.ceiling for limit in main.limits] == [3, 3]
    assert plain.limits == main.limits
    assert roles["judge"] is roles["critic"]
    assert [limit.ceiling for limit in roles["judge"].limits] == [3]


async def test_the_flag_holds_for_every_replica_over_all_requests(tmp_path):
    async with serving(Counting(delay=0.02)) as first, serving(Counting(delay=0.02)) as second:
        flags = ("--store", "none", "--concurrency", "4")
        async with (
            launched(f"{first.url},{second.url}", tmp_path, *flags) as gateway,
            aiohttp.ClientSession(gateway.url + "/") as http,
            asyncio.TaskGroup() as asking,
        ):
            replies = [asking.create_task(_status(http, seed)) for seed in range(24)]
    assert {reply.result() for reply in replies} == {200}
    assert 1 < first.most_running <= 4
    assert 1 < second.most_running <= 4


async def _status(http, seed):
    async with http.post("chat/completions", json={**ASKED, "seed": seed}) as reply:
        return reply.status


@pytest.mark.model
@pytest.mark.parametrize(
    "more",
    [
        {"logit_bias": {"99999999": 1}},
        {"response_format": {"type": "grammar"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
        {"messages": [{"role": "nobody", "content": "<|im_start|>"}]},
    ],
)
async def test_what_the_embedded_engine_cannot_do_is_the_requests_fault(more):
    body = {"model": "small", "messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 4, **more}

    async def run():
        order = Menu({"small": engine}, max_tokens=16).order(asked(Api.chat, body, {}, Limits()))
        async with Runs().wanted(order) as running:
            await running.outcome()

    engine = LlamaCpp(model=default_weights())
    try:
        with pytest.raises(ThinkscaleError) as failure:
            await run()
    finally:
        await engine.aclose()
    assert refusal_of(failure.value).status == 400
