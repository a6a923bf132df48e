"""Who draws what, agreed between all who share a store, so that no draw is paid for twice.

A claim lasts `SECONDS` and is renewed as long as its holder lives: whoever dies loses it by time. A store that takes
no claims keeps nobody from drawing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from thinkscale.engines.protocol import Completion
from thinkscale.store.batch import Act
from thinkscale.store.reads import Reader
from thinkscale.store.writer import Writer

SECONDS = 20.0
"""How long a claim lasts that is not renewed."""
RENEWED = 0.25
"""After which share of that it is renewed."""
MOST_WAIT = 1.0
"""Seconds to wait for a store that others have locked; then everybody draws for himself."""
_LOOK, _LOOK_SELDOM = 0.005, 0.1
"""Seconds between two looks for what somebody else draws, at first and in the end."""
_CLAIM = """
    INSERT INTO claims SELECT value, ?1, ?2 FROM json_each(?3) WHERE value NOT IN (SELECT key FROM completions)
    ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE until < ?4
"""
_HELD = "SELECT key FROM claims WHERE holder = ? AND key IN (SELECT value FROM json_each(?))"
_RELEASE = "DELETE FROM claims WHERE holder = ? AND key IN (SELECT value FROM json_each(?))"
_RENEW = "UPDATE claims SET until = ? WHERE holder = ?"


class Claims(Protocol):
    """What a store of any kind offers to those who draw."""

    async def claim(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of the draws that are the caller's to make now; the others are known, or somebody else makes them."""
        ...

    def release(self, keys: Sequence[str]) -> None:
        """Give up claims: their draws are known, or will not be made. Keys that are not claimed do no harm."""
        ...

    async def arrive(self, keys: Sequence[str]) -> dict[str, Completion]:
        """Wait until at least one of the draws is known or nobody makes it any more; returns those that are known."""
        ...


class FileClaims:
    """Claims in the store's file. Two runs in one process share their draws as two processes do."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer, self._reader = writer, reader
        self._holder = secrets.token_hex(8)
        self._held: set[str] = set()

    async def claim(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of the draws that are the caller's to make now."""
        wanted = [key for key in keys if key not in self._held and key not in self._writer.unsaved]
        if not wanted:
            return frozenset()
        self._held.update(wanted)
        granted: set[str] = set()
        asked = json.dumps(wanted)

        def ask(db: sqlite3.Connection) -> None:
            now = time.time()
            db.execute(_CLAIM, (self._holder, now + SECONDS, asked, now))
            granted.clear()
            granted.update(key for (key,) in db.execute(_HELD, (self._holder, asked)))

        self._renew()
        self._writer.put(Act(ask))
        try:
            async with asyncio.timeout(MOST_WAIT):
                await self._writer.settled()
        except TimeoutError:
            return frozenset(wanted)
        except BaseException:
            self.release(wanted)
            raise
        if self._writer.trouble:
            return frozenset(wanted)
        self._held.difference_update(key for key in wanted if key not in granted)
        return frozenset(granted)

    def release(self, keys: Sequence[str]) -> None:
        """Give up claims."""
        held = [key for key in keys if key in self._held]
        if held:
            self._held.difference_update(held)
            self._renew()
            given = json.dumps(held)
            self._writer.put(Act(lambda db: db.execute(_RELEASE, (self._holder, given))))

    async def arrive(self, keys: Sequence[str]) -> dict[str, Completion]:
        """Wait until at least one of the draws is known or nobody makes it any more."""
        pause = _LOOK
        while True:
            # In this order: a claim that is gone has left its completion behind.
            made = self._find_drawn(keys)
            known = self._reader.recall(keys)
            if known or len(made) < len(keys):
                return known
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_SELDOM)

    def _find_drawn(self, keys: Sequence[str]) -> set[object]:
        """Those that somebody is drawing."""
        made: set[object] = {key for key in keys if key in self._held}
        elsewhere = [key for key in keys if key not in made]
        with suppress(sqlite3.Error):
            found = self._reader.among("SELECT key, until FROM claims WHERE key IN ({})", elsewhere)
            made.update(key for key, until in found if float(str(until)) >= time.time())
        return made

    def _renew(self) -> None:
        def renew(db: sqlite3.Connection) -> None:
            db.execute(_RENEW, (time.time() + SECONDS, self._holder))

        self._writer.period = SECONDS * RENEWED
        self._writer.chore = renew if self._held else None
