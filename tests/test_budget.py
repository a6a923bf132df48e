import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import on_a_clock_of_its_own
from thinkscale.budget import CLOSING_TOKENS, Budget, Cost, Ledger, ceiling_text
from thinkscale.errors import BudgetError, ThinkscaleError
from thinkscale.types import Usage

LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(0, 10**9),
        "calls": st.integers(0, 10**9),
        "seconds": st.floats(0, 1e9, allow_nan=False),
        "usd": st.floats(0, 1e6, allow_nan=False),
    },
)
DRAWS = st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=14)
"""What each draw really takes, and whether it answers."""


@given(LIMITS)
def test_a_budget_survives_being_written_and_read(limits):
    budget = Budget(**limits)
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tokns=3", "`tokens=`"),
        ("tokens", "needs a number"),
        ("tokens=", "needs a number"),
        ("tokens=many", "`tokens=100`"),
        ("tokens=1.5", "needs a number"),
        ("tokens=-1", "0 or more"),
        ("seconds=nan", "0 or more"),
        ("usd=-0.1", "0 or more"),
        ("tokens=" + "9" * 5000, "needs a number"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_in_one_sentence(text, hint):
    with pytest.raises(BudgetError, match=hint) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ThinkscaleError)


def test_spaces_underscores_and_empty_parts_are_forgiven():
    assert Budget.parse(" tokens = 2_000 , , seconds=1.5,") == Budget(tokens=2000, seconds=1.5)
    assert Budget.parse("") == Budget()


def test_a_budget_of_the_wrong_type_is_refused():
    with pytest.raises(BudgetError):
        Budget(tokens="many")


async def spend(ledger, cap, draws, order):
    """Make draws on an account, settling in the given order; returns the grants in draw order."""
    grants, flying = [], []

    async def one(index, need, answers):
        grant = await ledger.admit(cap)
        grants.append((index, grant.each.tokens if grant else None))
        if grant is None:
            return
        landed = asyncio.get_running_loop().create_future()
        flying.append(landed)
        await landed
        if answers:
            ledger.release()
        ledger.settle(grant.each, Usage(calls=1, output_tokens=min(need, int(grant.each.tokens))))

    tasks = [asyncio.create_task(one(i, need, answers)) for i, (need, answers) in enumerate(draws)]
    while not all(t.done() for t in tasks):
        for _ in range(4 * len(draws)):
            await asyncio.sleep(0)
        flying = [f for f in flying if not f.done()]
        if flying:
            flying[order.randrange(len(flying))].set_result(None)
    await asyncio.gather(*tasks)
    return sorted(grants)


async def spend_serially(ledger, cap, draws):
    grants = []
    for index, (need, answers) in enumerate(draws):
        grant = await ledger.admit(cap)
        grants.append((index, grant.each.tokens if grant else None))
        if grant:
            if answers:
                ledger.release()
            ledger.settle(grant.each, Usage(calls=1, output_tokens=min(need, int(grant.each.tokens))))
    return grants


@given(DRAWS, st.integers(0, 120), st.integers(1, 30), st.one_of(st.none(), st.integers(0, 15)), st.randoms())
def test_any_order_of_settlement_gives_the_grants_of_the_serial_run_and_never_overspends(
    draws, most, cap, calls, order
):
    budget, each = Budget(tokens=most, calls=calls), Cost(tokens=cap, calls=1)

    async def both():
        serial, at_once = Ledger(budget, closing=True), Ledger(budget, closing=True)
        assert await spend_serially(serial, each, draws) == await spend(at_once, each, draws, order)
        assert serial.spent == at_once.spent
        assert serial.refused == at_once.refused
        for ledger in (serial, at_once):
            assert ledger.spent.output_tokens <= most
            assert calls is None or ledger.spent.calls <= calls
            assert ledger.in_flight == 0
            assert ledger._reserved == Cost()

    asyncio.run(both())


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), max_size=8), st.integers(0, 60), st.randoms())
def test_reservations_and_spending_together_never_pass_a_limit(work, most, order):
    async def go():
        ledger = Ledger(Budget(tokens=most))
        open_grants = []
        for tokens, draws in work:
            while True:
                fits = asyncio.create_task(ledger.admit(Cost(tokens=tokens, calls=1), draws))
                await asyncio.sleep(0)
                if fits.done():
                    break
                fits.cancel()
                await asyncio.gather(fits, return_exceptions=True)
                each = open_grants.pop(order.randrange(len(open_grants)))
                ledger.settle(each, Usage(calls=1, output_tokens=order.randint(0, int(each.tokens))))
            if grant := fits.result():
                assert 1 <= grant.draws <= draws
                open_grants += [grant.each] * grant.draws
            assert ledger.spent.output_tokens + sum(g.tokens for g in open_grants) <= most
            assert ledger.left.tokens == most - ledger.spent.output_tokens - sum(g.tokens for g in open_grants)

    asyncio.run(go())


async def test_admission_is_first_come_first_served_even_when_a_later_one_would_fit():
    ledger = Ledger(Budget(tokens=10))
    first = await ledger.admit(Cost(tokens=8, calls=1))
    order = []

    async def queued(name, tokens):
        grant = await ledger.admit(Cost(tokens=tokens, calls=1))
        order.append((name, grant.each.tokens))
        ledger.settle(grant.each, Usage(calls=1, output_tokens=1))

    large = asyncio.create_task(queued("large", 9))
    await asyncio.sleep(0)
    small = asyncio.create_task(queued("small", 1))
    await asyncio.sleep(0)
    assert order == []
    ledger.settle(first.each, Usage(calls=1, output_tokens=0))
    await asyncio.gather(large, small)
    assert order == [("large", 9), ("small", 1)]


@on_a_clock_of_its_own
async def test_one_who_gives_up_waiting_lets_the_next_one_through():
    ledger = Ledger(Budget(tokens=10))
    await ledger.admit(Cost(tokens=8, calls=1))
    large = asyncio.create_task(ledger.admit(Cost(tokens=9, calls=1)))
    await asyncio.sleep(0)
    small = asyncio.create_task(ledger.admit(Cost(tokens=2, calls=1)))
    await asyncio.sleep(0)
    large.cancel()
    grant = await asyncio.wait_for(small, 1)
    assert grant.each.tokens == 2


async def test_a_batch_is_admitted_as_far_as_it_fits():
    ledger = Ledger(Budget(tokens=25))
    assert (await ledger.admit(Cost(tokens=10, calls=1), 5)).draws == 2
    assert (await Ledger(Budget(calls=3)).admit(Cost(tokens=10, calls=1), 5)).draws == 3
    assert (await Ledger(Budget()).admit(Cost(tokens=10, calls=1), 5)).draws == 5


async def test_what_is_left_is_granted_only_when_nothing_is_in_flight():
    ledger = Ledger(Budget(tokens=25))
    two = await ledger.admit(Cost(tokens=10, calls=1), 2)
    waiting = asyncio.create_task(ledger.admit(Cost(tokens=10, calls=1)))
    ledger.settle(two.each, Usage(calls=1, output_tokens=10))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.settle(two.each, Usage(calls=1, output_tokens=10))
    assert (await waiting).each.tokens == 5
    assert not ledger.refused


@pytest.mark.parametrize("budget", [Budget(tokens=0), Budget(calls=0), Budget(seconds=0)])
async def test_a_zero_budget_grants_nothing_and_says_so(budget):
    ledger = Ledger(budget)
    assert ledger.exhausted
    assert await ledger.admit(Cost(tokens=1, calls=1)) is None
    assert ledger.refused


async def test_no_money_buys_what_is_free_and_nothing_else():
    assert await Ledger(Budget(usd=0)).admit(Cost(tokens=9, calls=1)) is not None
    priced = Cost(tokens=9, calls=1, usd=0.9, prompt_usd=0.0)
    assert await Ledger(Budget(usd=0)).admit(priced) is None


async def test_a_call_that_is_short_of_money_may_generate_as_much_less():
    each = Cost(tokens=100, calls=1, usd=1.1, prompt_usd=0.1)
    ledger = Ledger(Budget(usd=0.6))
    grant = await ledger.admit(each)
    assert (grant.each.tokens, grant.each.usd) == (50, 0.6)
    assert await Ledger(Budget(usd=0.05)).admit(each) is None


async def test_money_is_split_over_a_batch():
    ledger = Ledger(Budget(usd=1.0))
    assert (await ledger.admit(Cost(tokens=5, calls=1, usd=0.1), 40)).draws == 10


async def test_an_exhausted_account_of_money_ends_open_loops():
    ledger = Ledger(Budget(usd=0.05))
    assert await ledger.admit(Cost(tokens=100, calls=1, usd=1.1, prompt_usd=0.1)) is None
    assert ledger.exhausted


async def test_without_limits_everything_is_admitted_and_nothing_reserved():
    ledger = Ledger(Budget(), closing=True)
    for _ in range(100):
        assert (await ledger.admit(Cost(tokens=10**9, calls=1, usd=1e9), 7)).draws == 7
    assert ledger.left == Cost(tokens=math.inf, calls=math.inf, usd=math.inf)
    assert not ledger.exhausted
    assert ledger._reserved == Cost()


@given(st.integers(0, 10_000))
def test_the_closing_reserve_is_never_more_than_a_quarter_of_a_large_budget_nor_the_whole_of_a_usable_one(tokens):
    kept = tokens - Ledger(Budget(tokens=tokens), closing=True).left.tokens
    assert kept <= CLOSING_TOKENS
    assert kept == min(tokens, max(8, tokens // 4), CLOSING_TOKENS)


async def test_the_closing_reserve_is_spendable_once_it_is_released():
    ledger = Ledger(Budget(tokens=20, calls=5), closing=True)
    assert (ledger.left.tokens, ledger.left.calls) == (12, 4)
    ledger.release()
    assert (ledger.left.tokens, ledger.left.calls) == (20, 5)
    ledger.release()
    assert ledger.left.tokens == 20


@on_a_clock_of_its_own
async def test_releasing_the_reserve_wakes_who_waits_for_it():
    ledger = Ledger(Budget(tokens=40), closing=True)
    assert ledger.left.tokens == 30
    await ledger.admit(Cost(tokens=20, calls=1))
    waiting = asyncio.create_task(ledger.admit(Cost(tokens=20, calls=1)))
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.release()
    assert (await asyncio.wait_for(waiting, 1)).each.tokens == 20


async def test_a_nested_account_is_bounded_by_its_grant_its_own_budget_and_the_outer_clock():
    outer = Ledger(Budget(tokens=100, seconds=50))
    inner = outer.child(Cost(tokens=30, calls=2), Budget(tokens=80, calls=1, seconds=1000))
    assert (inner.left.tokens, inner.left.calls) == (30, 1)
    assert inner.deadline == outer.deadline
    assert outer.child(Cost(tokens=30, calls=2), Budget(seconds=1)).deadline <= time.monotonic() + 1


async def test_a_nested_account_has_no_limit_of_money_when_the_outer_one_has_none():
    inner = Ledger(Budget(tokens=100)).child(Cost(tokens=30, calls=2))
    assert (await inner.admit(Cost(tokens=9, calls=1, usd=5.0, prompt_usd=1.0))).each.tokens == 9


@pytest.mark.parametrize(("seconds", "kept"), [(100, 10), (4, 1.5), (2, 1)])
async def test_some_of_the_time_is_kept_back_until_there_is_an_answer(seconds, kept):
    ledger = Ledger(Budget(seconds=seconds), closing=True)
    before = ledger.deadline
    ledger.release()
    assert ledger.deadline - before == pytest.approx(kept, rel=0.06)
    assert seconds - 0.25 <= ledger.deadline - ledger.started < seconds


def test_a_ceiling_reads_as_a_sentence():
    assert ceiling_text(Cost(tokens=2000, calls=3)) == "3 calls, 2,000 generated tokens"
    assert "no limit" in ceiling_text(Cost(tokens=math.inf, calls=3))
    assert Budget(tokens=5).clip(Cost(tokens=9, calls=2)) == Cost(tokens=5, calls=2)


def test_the_written_form_of_a_constructed_budget_is_a_constructor():
    assert repr(Budget(tokens=5, usd=0.25)) == "Budget(tokens=5, usd=0.25)"
