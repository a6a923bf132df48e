"""How many draws a server makes at once, where it says so."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from thinkscale.engines.http import Http
from thinkscale.engines.http.engine import CONCURRENCY


@pytest.mark.parametrize(
    ("props", "given", "places"),
    [
        ({"total_slots": 6}, None, 6),
        ({"total_slots": 6}, 4, 4),
        ({"total_slots": 6}, 40, 40),
        ({"total_slots": 0}, None, CONCURRENCY),
        ({"total_slots": True}, None, CONCURRENCY),
        ({"total_slots": "many"}, None, CONCURRENCY),
        ([], None, CONCURRENCY),
        (None, None, CONCURRENCY),
    ],
)
async def test_slots_that_llama_cpp_tells_are_its_places_unless_the_caller_says_how_many(props, given, places):
    async def models(_):
        return web.json_response({"data": [{"id": "m", "owned_by": "llamacpp"}]})

    async def told(_):
        return web.json_response(props) if props is not None else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_get("/props", told)
    async with TestServer(app) as server:
        engine = Http(base_url=str(server.make_url("/v1")), concurrency=given)
        assert engine.capabilities.concurrency == (given or CONCURRENCY)
        await engine.open()
        assert engine.capabilities.concurrency == places
        assert engine.endpoint.most == (6 if props == {"total_slots": 6} else 1)
        await engine.aclose()
