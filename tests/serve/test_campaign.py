"""Many clients, an upstream that fails in every way, clients that leave and come back: nothing hangs, leaks or is lost.

`make soak` runs the same for longer.
"""

import asyncio
import gc
import logging
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers.faults import Faults
from servers.gateway import fronting
from servers.mock import serving, until
from thinkscale.serve import runs as runs_module
from thinkscale.serve.keys import Keyring
from thinkscale.serve.responses import Shelf
from thinkscale.serve.runs import Runs
from thinkscale.types import Usage

REQUESTS = int(os.environ.get("THINKSCALE_TEST_REQUESTS", "1000"))
SECONDS = float(os.environ.get("THINKSCALE_TEST_SECONDS", "0"))
"""How long the soak lasts; without it, the number of requests says when to end."""
CLIENTS = 32
PLACES = 24
HANG = 60.0
"""Seconds without the end of any request after which one counts as hung: far more than all tries of a draw take."""
MODELS = (
    "mock",
    "mock+self-consistency(n=4, stop=fixed)",
    "mock+self-consistency(n=6)",
    "mock+best-of-n(n=3, scorer=length)",
)
PATHS = {
    "chat/completions": {"messages": [{"role": "user", "content": "40 + 2?"}]},
    "responses": {"input": "40 + 2?"},
    "completions": {"prompt": "40 + 2?"},
}
CAPS = {"responses": "max_output_tokens"}


@dataclass(slots=True)
class Campaign:
    """What clients saw."""

    url: str
    token: str
    rng: random.Random
    left: int = REQUESTS
    until: float = 0.0
    seen: Counter = field(default_factory=Counter)
    alive: list[int] = field(default_factory=list)
    """Objects in this process, from time to time."""

    def more(self):
        if SECONDS:
            return time.monotonic() < self.until
        self.left -= 1
        return self.left >= 0

    async def client(self):
        headers = {"Authorization": f"Bearer {self.token}"}
        connector = aiohttp.TCPConnector(limit=0)
        patient = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(self.url + "/", headers=headers, connector=connector, timeout=patient) as http:
            while self.more():
                path = self.rng.choice(list(PATHS))
                body = {"model": self.rng.choice(MODELS), "seed": self.rng.randrange(10**6)} | PATHS[path]
                body |= {"stream": self.rng.random() < 0.5, CAPS.get(path, "max_tokens"): 32}
                named = {"Idempotency-Key": str(body["seed"])} if self.rng.random() < 0.5 else {}
                for _ in range(self.rng.choice((1, 1, 2)) if named else 1):
                    patience = self.rng.uniform(0, 0.3) if self.rng.random() < 0.2 else None
                    await self.ask(http, path, body, named, patience)
                if sum(self.seen.values()) >= 250 * (len(self.alive) + 1):
                    gc.collect()
                    self.alive.append(len(gc.get_objects()))

    async def watch(self):
        """See to it that requests end, however slowly."""
        while True:
            ended = self.seen.total()
            await asyncio.sleep(HANG)
            assert self.seen.total() > ended, "a request hung"

    async def ask(self, http, path, body, headers, patience):
        try:
            async with (
                asyncio.timeout(patience),
                http.post(path, json=body, headers=headers) as reply,
            ):
                told = await reply.read()
        except TimeoutError:
            self.seen["left"] += 1
            return
        assert reply.status in (200, 429, 502, 503), (reply.status, told)
        self.seen[reply.status] += 1
        if reply.status == 200 and body["stream"]:
            assert told.rstrip().endswith((b"data: [DONE]", b"}")), told[-200:]
            self.seen["streams that failed"] += b'"error":{' in told or b"response.failed" in told


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_campaign_of_faults_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(runs_module, "MOST_KEPT", 64)
    # The test runner keeps every record of the logs, which then is the only thing that grows.
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    # On this clock no day ends, with which what was spent in it would be forgotten.
    keyring, spent = Keyring(":memory:", lambda: 0.0), Usage()
    key, token = keyring.add("me")
    runs = Runs(places=PLACES, waiting=512)
    counted = runs.metrics.ran

    def ran(order, usage, outcome):
        nonlocal spent
        spent += usage
        if outcome is not None:
            assert outcome.usage.output_tokens == usage.output_tokens
        counted(order, usage, outcome)

    monkeypatch.setattr(runs.metrics, "ran", ran)
    tasks = len(asyncio.all_tasks())
    async with (
        serving(Faults(seed=1, rate=0.15, kept=10 if SECONDS else None)) as mock,
        fronting(mock.url, runs=runs, keyring=keyring, shelf=Shelf(most=64), idle=1.0) as front,
    ):
        campaign = Campaign(front.url, token, random.Random(2), until=time.monotonic() + SECONDS)
        async with asyncio.TaskGroup() as watched:
            watch = watched.create_task(campaign.watch())
            async with asyncio.TaskGroup() as clients:
                for _ in range(CLIENTS):
                    clients.create_task(campaign.client())
            watch.cancel()
        assert await until(lambda: runs.alive == 0 and mock.streams == 0)
        assert (runs.queue.free, runs.queue.waiting) == (PLACES, 0)
        told = read(runs.metrics)
        assert keyring.spent(key).tokens == told["tokens"] == spent.output_tokens
        assert told["calls"] == spent.calls
        assert told["disconnects"] <= campaign.seen["left"]  # some left before they had asked
        assert told["runs in flight"] == told["queue length"] == 0
        if not SECONDS:
            # What was charged was written; what was lost on the way is not charged.
            assert 0 < spent.output_tokens <= sum(sum(s.written) for s in mock.served)
    print(f"{dict(campaign.seen)}; {spent}; objects {campaign.alive}; faults {dict(mock.done)}")  # noqa: T201
    assert await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert campaign.seen[200] > REQUESTS / 2 or SECONDS
    early, late = campaign.alive[0], campaign.alive[-1]
    assert late < 1.1 * early + 10_000


def read(metrics):
    told = Counter()
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            match sample.name:
                case "thinkscale_tokens_total" if sample.labels["kind"] in ("shown", "hidden"):
                    told["tokens"] += sample.value
                case "thinkscale_calls_total":
                    told["calls"] += sample.value
                case "thinkscale_disconnects_total":
                    told["disconnects"] += sample.value
                case "thinkscale_runs_in_flight" | "thinkscale_queue_length":
                    told[sample.name.removeprefix("thinkscale_").replace("_", " ")] += sample.value
    return told
