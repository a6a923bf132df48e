"""API keys of the gateway: who may ask, how much, and what each has spent. It knows the store's file and no request.

A key is `sk-ts-<id>-<secret>`. The id may be shown and logged; the secret is 256 random bits, and of the whole key only
the SHA-256 is kept. A slow hash protects passwords, because people choose few of them; no hash is slow enough to matter
when there are 2²⁵⁶ keys to try, and one that takes 50 ms per request would let anybody without a key keep the gateway
busy. Days and minutes are those of UTC and begin at zero.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import math
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from pydantic import TypeAdapter

from thinkscale.budget import Budget
from thinkscale.errors import ServeError, SettingsError
from thinkscale.serve.asking import tighter
from thinkscale.serve.books import BUSY, DAY, MINUTE, PATIENCE, Books, book, start_of
from thinkscale.types import Usage

PREFIX = "sk-ts-"
_KNOWN = (
    "SELECT hash, id, name, limits, created, revoked FROM keys WHERE id = ? "
    "UNION ALL SELECT zeroblob(32), '', '', '{}', 0.0, 0.0 LIMIT 1"
)
"""The key of an id, or one that has never been good and whose hash no key has: looking for either takes as long."""
_NANO = 10**9
_SOON = 1.0
"""Advised wait in seconds where only the end of a run can help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a key may use. `None` means no limit; every limit holds at once.

    Raises:
        SettingsError: a limit that is negative or not a number.
    """

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    """Tokens generated; prompts are not counted."""
    usd_per_day: float | None = None
    concurrent: int | None = None
    """Runs at once."""
    budget: Budget = field(default_factory=Budget)
    """Most that one request may spend."""

    def __post_init__(self) -> None:
        for name, limit in self.named().items():
            if not (isinstance(limit, int | float) and 0 <= limit < math.inf):
                raise SettingsError(f"the limit `{name}={limit}` is not a number of 0 or more")

    def named(self) -> dict[str, int | float]:
        """The limits that are set, apart from the budget, by name."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name != "budget")
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it may be shown."""

    id: str
    """Empty for whoever asks an open gateway."""
    name: str
    limits: Limits = Limits()
    created: float = 0.0
    """Seconds since 1970."""
    revoked: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a key used in some minute or day."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """Leave to make one run. It holds what the run can spend until it is charged."""

    key: Key
    budget: Budget = field(default_factory=Budget)
    """What the run may spend: what the key has left for it."""
    held: Budget = field(default_factory=Budget)
    """The tokens and the money of it that no other run of the key may spend."""


OPEN = Key(id="", name="anyone")
"""Who asks a gateway without keys."""
_limits = TypeAdapter(Limits)


def must_have_keys(host: str) -> bool:
    """Whether others than this machine can reach a gateway that listens at `host`."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


class Keyring:
    """The keys in a store, and the account of each.

    Limits hold over everybody who uses the file; runs at once, and what they hold, over this process.
    Any thread may call.

    Args:
        path: file of the store; made when absent.
        clock: seconds since 1970.

    Raises:
        StoreError: the file cannot be opened, or is no store.
    """

    def __init__(self, path: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        """Held for moments only, and never while waiting for the file."""
        self._running: dict[str, set[Admission]] = {}
        self._owed: list[tuple[str, int, int, int]] = []
        """Charges that the disk has not taken yet: key, time, tokens, billionths of a dollar."""
        self._booked = 0
        """How many of them are in the write that is under way."""
        self._any = False
        self._books = Books(path)

    @property
    def empty(self) -> bool:
        """Whether there has never been a key. Revoked ones count: revoking the last does not open the door."""
        if not self._any:
            with self._books.reading() as db:
                self._any = db.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None
        return not self._any

    def allow(self, host: str) -> None:
        """Refuse to be open to other machines.

        Raises:
            SettingsError: `host` is not this machine alone, and there is no key.
        """
        if must_have_keys(host) and self.empty:
            raise SettingsError(
                f"a gateway on `{host}` without keys would answer everybody who can reach it: make a key with "
                "`thinkscale keys add NAME`, or listen on `127.0.0.1`"
            )

    def check(self, authorization: str | None) -> Key:
        """Whose request it is, from its `Authorization` header. An unknown id takes the same steps as a wrong secret.

        Raises:
            ServeError: no key, or none that is good (401).
        """
        if self.empty:
            return OPEN
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized(
                "You didn't provide an API key: send it in the header `Authorization: Bearer YOUR_KEY`", code=None
            )
        id = token.removeprefix(PREFIX).partition("-")[0]
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._books.reading() as db:
            [known, *row] = db.execute(_KNOWN, (id,)).fetchone()
        if not hmac.compare_digest(given, known) or row[-1] is not None:
            raise _unauthorized(
                "Incorrect API key provided: use one that `thinkscale keys add` printed and nobody has revoked",
                code="invalid_api_key",
            )
        return _key(*row)

    async def admitted(self, key: Key, most: Budget | None = None) -> Admission:
        """As `admit`, while the event loop goes on. Whoever is cancelled meanwhile is not admitted."""
        try:
            return self.admit(key, most, patience=0.0)
        except ServeError as refusal:
            if refusal.code != BUSY:
                raise
        waiting = asyncio.ensure_future(asyncio.to_thread(self.admit, key, most))
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(lambda done: None if done.exception() else self.charge(done.result(), Usage()))
            raise

    def admit(self, key: Key, most: Budget | None = None, patience: float = PATIENCE) -> Admission:
        """Count a request and hold what its run can spend.

        Args:
            key: whose request it is.
            most: what the run can spend at most, as `ceilings.most` works it out. Of tokens that it leaves open
                everything is held that the key has left, and other runs of the key are refused meanwhile; money that
                it leaves open is not held, because then nobody knows prices.
            patience: seconds to wait for others who write.

        Raises:
            ServeError: a limit is reached (429), or the account cannot be written (503).
        """
        if key is OPEN:
            return Admission(key)
        most = tighter(most or Budget(), key.limits.budget)
        admission = Admission(key)
        try:
            with self._books.writing(patience, self._settled) as db, self._lock:
                self._book(db)
                self._refuse(key, db)
                left = self._left(key, db)
                held = tighter(most, left)
                admission = Admission(key, left, replace(held, usd=None) if most.usd is None else held)
                book(db, key.id, int(self._clock()), requests=1)
                self._running.setdefault(key.id, set()).add(admission)
        except BaseException:
            with self._lock:
                self._leave(admission)
            raise
        return admission

    def charge(self, admission: Admission, usage: Usage) -> None:
        """End an admission and book what its run spent, nothing included; a second call does nothing.

        It neither fails nor waits: what the disk does not take at once is booked later, and nobody is admitted before.
        """
        with self._lock:
            if not self._leave(admission):
                return
            spent = (_whole(usage.output_tokens), _whole((usage.usd or 0.0) * _NANO))
            self._owed.append((admission.key.id, int(self._clock()), *spent))
        self._settle(0.0)

    def left(self, key: Key) -> Budget:
        """What the next run of a key may spend: its budget per request, within what is left of its day."""
        if key is OPEN:
            return Budget()
        with self._books.reading() as db, self._lock:
            return self._left(key, db)

    def spent(self, key: Key, span: int = DAY) -> Spent:
        """What a key used today, or in this minute."""
        with self._books.reading() as db:
            return self._spent(key, db, span)

    def listed(self) -> list[Key]:
        """All keys, the oldest first, revoked ones included."""
        with self._books.reading() as db:
            rows = db.execute("SELECT id, name, limits, created, revoked FROM keys ORDER BY created, id").fetchall()
        return [_key(*row) for row in rows]

    def add(self, name: str, limits: Limits | None = None) -> tuple[Key, str]:
        """A new key and its secret, which cannot be had again."""
        key = Key(id=secrets.token_hex(4), name=name, limits=limits or Limits(), created=self._clock())
        token = f"{PREFIX}{key.id}-{secrets.token_urlsafe(32)}"
        row = (key.id, name, hashlib.sha256(token.encode()).digest(), _dumped(key.limits), key.created)
        with self._books.writing() as db:
            db.execute("INSERT INTO keys (id, name, hash, limits, created) VALUES (?, ?, ?, ?, ?)", row)
        return key, token

    def limit(self, id: str, limits: Limits) -> None:
        """Give a key other limits, from its next request on.

        Raises:
            SettingsError: there is no such key.
        """
        self._change("UPDATE keys SET limits = ? WHERE id = ?", _dumped(limits), id)

    def revoke(self, id: str) -> None:
        """Make a key worthless for good, from its next request on.

        Raises:
            SettingsError: there is no such key.
        """
        self._change("UPDATE keys SET revoked = COALESCE(revoked, ?) WHERE id = ?", self._clock(), id)

    def close(self) -> None:
        """Book what is owed and let go of the file."""
        self._settle(PATIENCE)
        self._books.close()

    def _refuse(self, key: Key, db: sqlite3.Connection) -> None:
        limits, now = key.limits, self._clock()
        limit = limits.requests_per_minute
        if limit is not None and self._spent(key, db, MINUTE).requests >= limit:
            raise _limited(key, f"{limit} requests per minute", MINUTE - now % MINUTE)
        if limits.concurrent is not None and len(self._running.get(key.id, ())) >= limits.concurrent:
            raise _limited(key, f"{limits.concurrent} runs at once", _SOON)
        today, left, tomorrow = self._spent(key, db, DAY), self._left(key, db), DAY - now % DAY
        if limits.tokens_per_day is not None and left.tokens == 0:
            over = today.tokens >= limits.tokens_per_day
            raise _limited(key, f"{limits.tokens_per_day} tokens per day", tomorrow if over else _SOON, quota=over)
        if limits.usd_per_day is not None and left.usd == 0:
            over = today.usd >= limits.usd_per_day
            raise _limited(key, f"${limits.usd_per_day:g} per day", tomorrow if over else _SOON, quota=over)

    def _left(self, key: Key, db: sqlite3.Connection) -> Budget:
        limits, today = key.limits, self._spent(key, db, DAY)
        held = [a.held for a in self._running.get(key.id, ())]
        tokens, usd = limits.tokens_per_day, limits.usd_per_day
        if tokens is not None:
            tokens = max(0, tokens - today.tokens - sum(b.tokens or 0 for b in held))
        if usd is not None:
            usd = max(0.0, round(usd - today.usd - math.fsum(b.usd or 0.0 for b in held), 9))
        return tighter(limits.budget, Budget(tokens=tokens, usd=usd))

    def _spent(self, key: Key, db: sqlite3.Connection, span: int) -> Spent:
        row = db.execute(
            "SELECT requests, tokens, nanousd FROM spending WHERE key = ? AND span = ? AND start = ?",
            (key.id, span, start_of(self._clock(), span)),
        ).fetchone()
        return Spent(requests=row[0], tokens=row[1], usd=row[2] / _NANO) if row else Spent()

    def _leave(self, admission: Admission) -> bool:
        """End an admission; whether it had not ended before."""
        running = self._running.get(admission.key.id, set())
        if admission not in running:
            return False
        running.remove(admission)
        if not running:
            del self._running[admission.key.id]
        return True

    def _book(self, db: sqlite3.Connection) -> None:
        for id, when, tokens, nanousd in self._owed:
            book(db, id, when, tokens=tokens, nanousd=nanousd)
        self._booked = len(self._owed)

    def _settled(self) -> None:
        """What was booked is safe."""
        with self._lock:
            del self._owed[: self._booked]

    def _settle(self, patience: float) -> None:
        """Book what is owed, as far as the file lets us within some seconds."""
        with suppress(ServeError), self._books.writing(patience, self._settled) as db, self._lock:
            self._book(db)

    def _change(self, sql: str, value: str | float, id: str) -> None:
        with self._books.writing() as db:
            if not db.execute(sql, (value, id)).rowcount:
                raise SettingsError(f"there is no key `{id}`: see `thinkscale keys list`")


def _whole(amount: float) -> int:
    """An amount as the file can hold it, whatever an engine says it spent."""
    return round(min(max(amount, 0.0), 2.0**53)) if not math.isnan(amount) else 0


def _key(id: str, name: str, limits: str, created: float, revoked: float | None) -> Key:
    return Key(id=id, name=name, limits=_limits.validate_json(limits), created=created, revoked=revoked)


def _dumped(limits: Limits) -> str:
    return _limits.dump_json(limits, exclude_none=True).decode()


def _unauthorized(message: str, code: str | None) -> ServeError:
    return ServeError(message, status=401, type="invalid_request_error", code=code)


def _limited(key: Key, limit: str, wait: float, *, quota: bool = False) -> ServeError:
    """A limit that is reached: one that passes, or one that is used up until tomorrow."""
    return ServeError(
        f"the key `{key.id}` has reached its limit of {limit}: try again in {math.ceil(wait)} s",
        status=429,
        type="insufficient_quota" if quota else "rate_limit_error",
        code="insufficient_quota" if quota else "rate_limit_exceeded",
        retry_after=float(math.ceil(wait)),
    )
