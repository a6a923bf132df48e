"""What was verified of models on their servers, kept in a file between runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from thinkscale.engines.dialects import Prefill
from thinkscale.engines.protocol import Capability
from thinkscale.settings import home


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was verified of a model on its server."""

    can: frozenset[Capability]
    prefill: Prefill
    most: int | None
    later: int | None
    """What the priority of a request that may wait has more than that of others; `None` where it is not used."""


def remembered(place: str) -> Remembered | None:
    """What `probe.remember` kept of a model on its server; `None` when it was never looked at."""
    told = read(file()).get(place)
    if not isinstance(told, dict):
        return None
    try:
        can = frozenset(Capability(name) for name in told["can"])
        return Remembered(can, Prefill(told["prefill"]), told["most"], told.get("later"))
    except (KeyError, ValueError, TypeError):
        return None


def file() -> Path:
    """Where it is kept."""
    return home() / "servers.json"


def read(path: Path) -> dict[str, object]:
    """All that is kept, by the place of an engine; nothing where the file cannot be read."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
