"""Gateways before a mock upstream. Without the extra `serve` there is nothing here to test."""

from importlib.util import find_spec

import pytest_asyncio

from servers.mock import Mock, answer, serving

collect_ignore_glob = [] if find_spec("starlette") and find_spec("uvicorn") else ["test_*.py"]


@pytest_asyncio.fixture
async def upstream():
    async with serving(Mock(says=lambda seed: answer(0))) as mock:
        yield mock


@pytest_asyncio.fixture
async def front(upstream):
    from servers.gateway import fronting

    async with fronting(upstream.url) as front:
        yield front
