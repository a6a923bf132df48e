"""Keys: nobody gets in without a good one, nobody spends more than theirs allows, and no charge is lost."""

import asyncio
import contextlib
import dataclasses
import hmac
import re
import sqlite3
import threading
import time

import pytest

from thinkscale.budget import Budget
from thinkscale.errors import ServeError, SettingsError, StoreError
from thinkscale.serve import keys as module
from thinkscale.serve.books import DAY, MINUTE
from thinkscale.serve.keys import OPEN, Keyring, Limits, Spent, must_have_keys
from thinkscale.store import Store
from thinkscale.types import Usage

NOON = 20_000 * DAY + DAY // 2
"""Noon of some day."""


class Clock:
    def __init__(self):
        self.now = float(NOON)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ring(tmp_path, clock):
    opened = Keyring(tmp_path / "runs.db", clock)
    yield opened
    opened.close()


def made(ring, **limits):
    key, _ = ring.add("someone", Limits(**limits))
    return key


def spend(ring, key, tokens=0, usd=None):
    ring.charge(ring.admit(key, Budget(tokens=tokens or None, usd=usd)), Usage(output_tokens=tokens, usd=usd))


def refusal(act, *arguments):
    with pytest.raises(ServeError) as caught:
        act(*arguments)
    return caught.value


def test_a_good_key_is_known_by_its_header(ring):
    key, token = ring.add("ada", Limits(concurrent=3, budget=Budget(tokens=100)))
    assert re.fullmatch(r"sk-ts-[0-9a-f]{8}-[\w-]{43}", token)
    for header in (f"Bearer {token}", f"bearer  {token} "):
        assert ring.check(header) == key
    assert key.limits.budget == Budget(tokens=100)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc"])
def test_no_key_is_refused_in_the_words_that_clients_know(ring, header):
    ring.add("ada")
    error = refusal(ring.check, header)
    assert (error.status, error.type, error.code) == (401, "invalid_request_error", None)
    assert str(error).startswith("You didn't provide an API key")


def test_unknown_wrong_and_revoked_keys_get_one_and_the_same_answer_which_does_not_repeat_them(ring):
    _, token = ring.add("ada")
    gone, revoked = ring.add("bob")
    ring.revoke(gone.id)
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    answers = set()
    for bad in (wrong, "sk-ts-00000000-" + token[-43:], "sk-other", revoked, "ключ", "\x00", token + "x"):
        error = refusal(ring.check, f"Bearer {bad}")
        assert bad not in str(error)
        answers.add((str(error), error.status, error.code))
    assert len(answers) == 1
    assert {(status, code) for _, status, code in answers} == {(401, "invalid_api_key")}


def test_every_key_is_compared_in_constant_time_with_a_whole_hash(ring, monkeypatch):
    _, token = ring.add("ada")
    compared, compare = [], hmac.compare_digest

    def watched(one, other):
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(module.hmac, "compare_digest", watched)
    ring.check(f"Bearer {token}")
    refusal(ring.check, f"Bearer {token}x")
    refusal(ring.check, "Bearer sk-ts-ffffffff-nothing")
    refusal(ring.check, "Bearer sk-ts--")
    assert compared == [(32, 32)] * 4


def test_the_file_holds_the_hash_and_never_the_key(ring, tmp_path):
    key, token = ring.add("ada")
    spend(ring, ring.check(f"Bearer {token}"), tokens=5)
    ring.close()
    held = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert key.id.encode() in held
    assert token.encode() not in held
    assert token.rpartition(key.id)[2].encode() not in held


def test_a_store_without_keys_is_open_and_one_whose_keys_were_all_revoked_is_not(ring):
    assert ring.check(None) is ring.check("Bearer whatever") is OPEN
    admission = ring.admit(OPEN, Budget(tokens=7))
    assert admission.budget == Budget()
    ring.charge(admission, Usage(output_tokens=7))
    ring.revoke(ring.add("ada")[0].id)
    assert refusal(ring.check, None).status == 401


def test_other_machines_are_let_in_only_with_keys(ring):
    ring.allow("127.0.0.1")
    with pytest.raises(SettingsError, match="thinkscale keys add"):
        ring.allow("0.0.0.0")
    ring.add("ada")
    ring.allow("0.0.0.0")


@pytest.mark.parametrize(
    ("host", "must"),
    [("127.0.0.1", False), ("127.8.8.8", False), ("::1", False), ("[::1]", False), ("localhost", False)]
    + [(host, True) for host in ("0.0.0.0", "::", "", "10.0.0.7", "gateway.example", "localhost.example")],
)
def test_whatever_is_not_surely_this_machine_must_have_keys(host, must):
    assert must_have_keys(host) is must


def test_requests_of_a_minute_are_counted_and_the_next_minute_begins_at_zero(ring, clock):
    key = made(ring, requests_per_minute=2)
    clock.now += 15
    for _ in range(2):
        spend(ring, key)
    error = refusal(ring.admit, key)
    assert (error.status, error.code, error.retry_after, error.retryable) == (429, "rate_limit_exceeded", 45.0, True)
    clock.now += error.retry_after
    spend(ring, key)
    assert (ring.spent(key).requests, ring.spent(key, MINUTE).requests) == (3, 1)


@pytest.mark.parametrize(("limits", "spent"), [({"tokens_per_day": 10}, 10), ({"tokens_per_day": 10}, 12)])
def test_the_tokens_of_a_day_run_out_and_come_back_at_midnight(ring, clock, limits, spent):
    key = made(ring, **limits)
    ring.charge(ring.admit(key), Usage(output_tokens=spent))
    error = refusal(ring.admit, key)
    assert (error.status, error.code, error.retry_after) == (429, "insufficient_quota", DAY / 2)
    assert not error.retryable
    clock.now += DAY / 2
    assert ring.left(key) == Budget(tokens=10)
    spend(ring, key, 1)


def test_the_money_of_a_day_is_exact_however_small_the_charges(ring):
    key = made(ring, usd_per_day=0.3)
    for _ in range(3):
        spend(ring, key, usd=0.1)
    assert ring.left(key).usd == 0.0
    assert refusal(ring.admit, key).code == "insufficient_quota"
    cheap = made(ring)
    for _ in range(1000):
        ring.charge(ring.admit(cheap), Usage(usd=2e-9))
    assert ring.spent(cheap).usd == 2e-6


def test_runs_at_once_are_counted_until_they_are_charged(ring):
    key = made(ring, concurrent=2)
    first, _ = ring.admit(key), ring.admit(key)
    assert refusal(ring.admit, key).retry_after == 1.0
    ring.charge(first, Usage())
    ring.charge(first, Usage(output_tokens=9))
    ring.admit(key)
    refusal(ring.admit, key)
    assert ring.spent(key) == Spent(requests=3)


def test_a_run_may_spend_what_is_left_and_holds_what_it_can_spend(ring):
    key = made(ring, tokens_per_day=100, usd_per_day=1.0, budget=Budget(tokens=60, calls=8, seconds=30.0))
    caps = {"tokens": 60, "calls": 8, "seconds": 30.0}
    assert ring.left(key) == Budget(**caps, usd=1.0)
    first = ring.admit(key, Budget(tokens=50, calls=20, usd=0.25))
    assert first.budget == Budget(**caps, usd=1.0), "a ceiling is no limit of the run"
    second = ring.admit(key, Budget(usd=0.5))
    assert second.budget == Budget(**{**caps, "tokens": 50}, usd=0.75)
    assert refusal(ring.admit, key).code == "rate_limit_exceeded", "what runs hold comes back soon, not tomorrow"
    ring.charge(first, Usage(output_tokens=20, usd=0.125))
    ring.charge(second, Usage(output_tokens=5, usd=0.0))
    assert ring.left(key) == Budget(**caps, usd=0.875)


def test_money_is_held_only_where_prices_are_known_or_requests_are_capped(ring):
    key = made(ring, usd_per_day=1.0)
    assert [ring.admit(key, Budget(tokens=9)).budget.usd for _ in range(2)] == [1.0, 1.0]
    capped = made(ring, usd_per_day=1.0, budget=Budget(usd=0.75))
    assert [ring.admit(capped, Budget(tokens=9)).budget.usd for _ in range(2)] == [0.75, 0.25]
    refusal(ring.admit, capped)


def test_runs_at_once_can_never_spend_more_than_the_day_has(ring):
    key = made(ring, tokens_per_day=1000)
    admitted = [ring.admit(key, Budget(tokens=300)) for _ in range(4)]
    assert [a.held.tokens for a in admitted] == [300, 300, 300, 100]
    assert [a.budget.tokens for a in admitted] == [1000, 700, 400, 100]
    refusal(ring.admit, key, Budget(tokens=300))


async def test_charges_of_many_tasks_are_all_booked(ring):
    key = made(ring)

    async def run(tokens):
        admission = ring.admit(key)
        await asyncio.sleep(0)
        ring.charge(admission, Usage(output_tokens=tokens, usd=tokens * 1e-6))

    async with asyncio.TaskGroup() as tasks:
        for tokens in range(200):
            tasks.create_task(run(tokens))
    assert ring.spent(key) == Spent(requests=200, tokens=19_900, usd=0.0199)


def test_charges_of_many_threads_and_of_several_processes_worth_of_connections_are_all_booked(ring, tmp_path, clock):
    key = made(ring, requests_per_minute=150)
    rings = [ring, Keyring(tmp_path / "runs.db", clock)]
    refused = []

    def work(own):
        for _ in range(50):
            try:
                own.charge(own.admit(key), Usage(output_tokens=3, usd=0.1))
            except ServeError as error:
                refused.append(error)

    threads = [threading.Thread(target=work, args=(rings[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rings[1].close()
    assert ring.spent(key) == Spent(requests=150, tokens=450, usd=15.0)
    assert {error.code for error in refused} == {"rate_limit_exceeded"}
    assert len(refused) == 50


def test_the_account_outlives_the_gateway(ring, tmp_path, clock):
    key, token = ring.add("ada", Limits(tokens_per_day=10))
    ring.charge(ring.admit(key), Usage(output_tokens=10))
    ring.close()
    again = Keyring(tmp_path / "runs.db", clock)
    assert refusal(again.admit, again.check(f"Bearer {token}")).code == "insufficient_quota"
    again.close()


def test_other_limits_and_a_revocation_hold_from_the_next_request_on(ring, tmp_path, clock):
    key, token = ring.add("ada")
    other = Keyring(tmp_path / "runs.db", clock)
    assert other.check(f"Bearer {token}").limits == Limits()
    ring.limit(key.id, Limits(tokens_per_day=4))
    assert other.check(f"Bearer {token}").limits == Limits(tokens_per_day=4)
    ring.revoke(key.id)
    assert refusal(other.check, f"Bearer {token}").status == 401
    revoked, clock.now = clock.now, clock.now + 1
    ring.revoke(key.id)
    assert [k.revoked for k in other.listed()] == [revoked]
    other.close()
    for act in (ring.revoke, lambda id: ring.limit(id, Limits())):
        with pytest.raises(SettingsError, match="`nobody`"):
            act("nobody")


def test_what_the_disk_does_not_take_is_booked_later_and_nobody_is_admitted_before(ring):
    key = made(ring)
    admission = ring.admit(key)
    ring._books._written.execute("PRAGMA query_only = ON")
    ring.charge(admission, Usage(output_tokens=7, usd=0.5))
    error = refusal(ring.admit, key)
    assert (error.status, error.code) == (503, "keys_unavailable")
    ring._books._written.execute("PRAGMA query_only = OFF")
    ring.admit(key)
    assert ring.spent(key) == Spent(requests=2, tokens=7, usd=0.5)


@pytest.mark.parametrize("usage", [{"output_tokens": 2**80}, {"usd": float("nan")}, {"usd": float("inf")}])
def test_an_engine_that_talks_nonsense_about_its_cost_cannot_close_the_account(ring, usage):
    key = made(ring)
    ring.charge(ring.admit(key), Usage(**usage))
    spend(ring, key, 1)
    assert ring.spent(key).requests == 2


def test_minutes_are_forgotten_after_a_day_and_days_are_kept(ring, clock):
    key = made(ring)
    for _ in range(4):
        spend(ring, key, 1)
        clock.now += DAY / 2
    spans = [span for (span,) in ring._books._written.execute("SELECT span FROM spending ORDER BY start")]
    assert spans.count(DAY) == 3
    assert spans.count(MINUTE) == 3


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Limits) if f.name != "budget"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_limit_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(SettingsError, match=field):
        Limits(**{field: value})


def test_keys_live_in_the_store_of_runs_and_in_nothing_else(tmp_path):
    path = tmp_path / "runs.db"
    Store(path).close()
    ring = Keyring(path)
    ring.add("ada")
    ring.close()
    store = Store(path)
    assert store.runs() == []
    store.close()
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreError, match="is not a store"):
        Keyring(other)


@contextlib.contextmanager
def kept_by_another(path):
    """The file while another connection is about to change it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


async def test_the_event_loop_goes_on_while_a_request_waits_for_its_account(ring, tmp_path):
    key, token = ring.add("ada", Limits(tokens_per_day=100))
    with kept_by_another(tmp_path / "runs.db"):
        waiting = asyncio.ensure_future(ring.admitted(key, Budget(tokens=10)))
        began = time.perf_counter()
        await asyncio.sleep(0.05)
        assert ring.check(f"Bearer {token}") == key
        assert ring.left(key).tokens == 100
        assert time.perf_counter() - began < 0.2
        assert not waiting.done()
    admission = await waiting
    assert ring.left(key).tokens == 90
    with kept_by_another(tmp_path / "runs.db"):
        began = time.perf_counter()
        ring.charge(admission, Usage(output_tokens=7))
        assert time.perf_counter() - began < 0.2
        with pytest.raises(ServeError) as refused:
            ring.admit(key, Budget(tokens=1), patience=0.0)
        assert (refused.value.status, refused.value.code) == (503, "keys_busy")
    ring.charge(await ring.admitted(key, Budget(tokens=1)), Usage())
    assert ring.spent(key).tokens == 7
    assert ring.left(key).tokens == 93


async def test_whoever_leaves_while_the_account_is_busy_holds_nothing(ring, tmp_path):
    key, _ = ring.add("ada", Limits(concurrent=1))
    with kept_by_another(tmp_path / "runs.db"):
        waiting = asyncio.ensure_future(ring.admitted(key))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait({waiting})

    def wait():
        deadline = time.monotonic() + 5
        while (not ring.spent(key).requests or ring._running) and time.monotonic() < deadline:
            time.sleep(0.01)

    await asyncio.to_thread(wait)
    ring.charge(await ring.admitted(key), Usage())


def test_what_is_owed_is_booked_when_the_gateway_ends(ring, tmp_path, clock):
    key, _ = ring.add("ada")
    admission = ring.admit(key)
    with kept_by_another(tmp_path / "runs.db"):
        ring.charge(admission, Usage(output_tokens=7))
    ring.close()
    again = Keyring(tmp_path / "runs.db", clock)
    assert again.spent(key).tokens == 7
    again.close()
