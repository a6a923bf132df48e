"""Ceilings: what is set aside for a run is never less than what it spends."""

from dataclasses import replace

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Price
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import ServeError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.serve.ceilings import most, refuse_vast
from thinkscale.serve.records import Api, Asked, Order
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Problem, Sampling

PRICE = Price(input=1.0, output=10.0)


def ordered(price=None, budget=None, max_tokens=10):
    problem = Problem.of("one two three")
    return Order(
        asked=Asked(api=Api.chat, model="m", problem=problem, sampling=Sampling()),
        method=SelfConsistency(n=4, stop=Fixed()),
        engine=Scripted(lambda _: "The answer is 4. " * 5, price=price),
        sampling=Sampling(max_tokens=max_tokens),
        budget=budget or Budget(),
        seed=0,
    )


def test_tokens_and_calls_are_those_of_the_method_within_the_budget():
    assert most(ordered()) == Budget(tokens=40, calls=4)
    assert most(ordered(budget=Budget(tokens=25, seconds=9.0, usd=1.0))) == Budget(tokens=25, calls=5)
    assert most(ordered(max_tokens=None)).tokens == 4 * 512


def test_what_all_calls_send_together_is_bounded_before_any_is_made():
    refuse_vast(ordered(), 25, sent=100)
    refuse_vast(ordered(budget=Budget(calls=2)), 50, sent=100)
    with pytest.raises(ServeError, match=r"26 bytes and may lead to 4 calls .* ask for 3 calls at most") as refused:
        refuse_vast(ordered(), 26, sent=100)
    assert (refused.value.status, refused.value.retryable) == (400, False)


def test_money_is_that_of_the_dearest_engine():
    reads, writes = 4 * (3 + 40) * 1.0, 40 * 10.0
    assert most(ordered(PRICE)).usd == pytest.approx((reads + writes) / 1e6)
    assert most(ordered(PRICE, Budget(usd=1e-6))).usd == 1e-6
    assert most(ordered(Price())).usd == 0.0


async def test_a_run_never_spends_more_than_its_ceiling():
    order = ordered(PRICE)
    outcome = await solve(
        order.asked.problem, order.method, order.engine, budget=order.budget, run=Run(), sampling=order.sampling
    )
    ceiling = most(order)
    assert outcome.usage.calls == ceiling.calls == 4
    assert 0 < outcome.usage.output_tokens <= ceiling.tokens
    assert 0 < outcome.usage.usd <= ceiling.usd


@pytest.mark.parametrize("left", [15, 41, 48, 60, 72, 100])
async def test_the_closing_question_of_a_run_is_part_of_its_ceiling(left):
    order = replace(ordered(PRICE, Budget(tokens=left)), engine=Scripted(lambda _: "so and so on " * 50, price=PRICE))
    outcome = await solve(
        order.asked.problem, order.method, order.engine, budget=order.budget, run=Run(), sampling=order.sampling
    )
    ceiling = most(order)
    assert outcome.usage.output_tokens <= ceiling.tokens <= left
    assert outcome.usage.calls <= ceiling.calls
    assert outcome.usage.usd <= ceiling.usd
