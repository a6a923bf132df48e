"""Who a draw is: the seed and the cache key that follow from what it continues, never from when it ran.

seed = hash(run seed, role, prompt, text so far, path), so finishing order cannot change a result; key = hash(model,
prompt, text so far, sampling, seed), so a completion once paid for is found again by anyone who asks for the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from hashlib import blake2b

from thinkscale.types import Message, Path, Sampling, Segment

_SEED_MASK = 2**63 - 1
RULES: Mapping[str, int] = {"seeds": 2, "keys": 1, "classes": 2}
"""The rules that a run is made under, by version: how seeds follow from a run, how draws are named, how answers form
classes. Who changes one raises its version: runs get other names then, and what was recorded before stays as it is.
"""


def digest(*parts: str | bytes | int) -> str:
    """A 128-bit name of the parts in order; no two lists of parts share one by joining differently."""
    return _hashed(*parts).hexdigest()


def rules_name() -> tuple[str, ...]:
    """What the rules add to the name of a run; nothing as long as all are the first ones."""
    return tuple(f"{name} {version}" for name, version in RULES.items() if version > 1)


def prompt_name(messages: Sequence[Message], tools: Sequence[object] = ()) -> str:
    """The name of a prompt."""
    plain = [[m.role, m.content, m.extra] for m in messages]
    return digest(json.dumps([plain, tools], sort_keys=True, default=_plain))


def text_name(segments: Sequence[Segment]) -> str:
    """The name of the text so far: what was written and by whom, not how it was tokenised."""
    if not segments:
        return ""
    return digest(*(part for s in segments for part in (s.origin.value, s.text)))


def seed_of(run_seed: int, role: str, prompt: str, text: str, path: Path) -> int:
    """The 63-bit seed of one draw."""
    return next(seeds_of(run_seed, role, prompt, text, (path,)))


def seeds_of(run_seed: int, role: str, prompt: str, text: str, paths: Iterable[Path]) -> Iterator[int]:
    """The 63-bit seeds of draws that continue the same text."""
    common = _begun(run_seed, role, prompt, text)
    for path in paths:
        h = common.copy()
        _add(h, repr(path))
        yield int.from_bytes(h.digest()[:8]) & _SEED_MASK


def sampling_name(sampling: Sampling) -> str:
    """The name of how tokens are drawn; fields at their defaults are left out, so new ones change no name."""
    settings = {f.name: v for f in fields(sampling) if (v := getattr(sampling, f.name)) != f.default}
    return json.dumps(settings, sort_keys=True, default=_plain)


@lru_cache(256)
def request_name(model: str, prompt: str, text: str, sampling: str, given: object = None) -> str:
    """The name of everything about a draw but its seed, from the names of its parts."""
    return digest(model, prompt, text, sampling, repr(given))


@lru_cache(256)
def _begun(*parts: str | int) -> blake2b:
    """The hash of what draws of one text share; never added to, only copied."""
    return _hashed(*parts)


def _hashed(*parts: str | bytes | int) -> blake2b:
    h = blake2b(digest_size=16)
    for part in parts:
        _add(h, part)
    return h


def _add(h: blake2b, part: str | bytes | int) -> None:
    raw = part if isinstance(part, bytes) else str(part).encode()
    h.update(len(raw).to_bytes(8, "little") + raw)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]
