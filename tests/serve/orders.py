"""Requests, orders and outcomes for the tests of the gateway."""

import asyncio

from thinkscale.api import solve
from thinkscale.engines.scripted import Scripted
from thinkscale.serve.asking import Limits, asked
from thinkscale.serve.fitting import Passthrough
from thinkscale.serve.profiles import Menu
from thinkscale.serve.records import Api
from thinkscale.session import Run
from thinkscale.settings import Profile

LIMITS = Limits(seconds=None)
FOUR = "2 + 2 is 4. The answer is 4."
FIVE = "The answer is 5."
BODIES = {
    Api.chat: {"messages": [{"role": "user", "content": "What is 2 + 2?"}]},
    Api.completions: {"prompt": "What is 2 + 2?"},
    Api.responses: {"input": "What is 2 + 2?"},
}


def request(api=Api.chat, **body):
    return asked(api, {"model": "small", **BODIES[api], **body}, {}, LIMITS)


def menu(script=(FOUR,), profiles=None, *, think=None, **options):
    fast = {"fast": Profile(method="self-consistency(n=4)", description="A small vote.")}
    return Menu({"small": Scripted(script, think=think)}, fast if profiles is None else profiles, **options)


def ran(order):
    """The outcome of an order, and the events on the way."""
    events = []
    run = Run(
        seed=order.seed, roles=order.roles, observe=events.append, closes=not isinstance(order.method, Passthrough)
    )
    work = solve(order.asked.problem, order.method, order.engine, budget=order.budget, run=run, sampling=order.sampling)
    return asyncio.run(work), events
