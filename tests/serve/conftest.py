"""Gateways before a mock upstream."""

import pytest_asyncio

from servers.gateway import fronting
from servers.mock import Mock, answer, serving


@pytest_asyncio.fixture
async def upstream():
    async with serving(Mock(says=lambda seed: answer(0))) as mock:
        yield mock


@pytest_asyncio.fixture
async def front(upstream):
    async with fronting(upstream.url) as front:
        yield front
