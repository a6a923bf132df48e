"""From `Asked` to `Order`: which model, method, budget and seed a request runs with.

A model's name is that of an upstream model, of a profile, or either with `+` and the spec of a method behind it. It
decides and reads no wire format; nothing is spent here.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

from thinkscale.budget import Budget
from thinkscale.engines.protocol import Engine
from thinkscale.engines.protocol import Request as EngineRequest
from thinkscale.errors import ScorerError, ServeError, SettingsError, SpecError, ThinkscaleError
from thinkscale.methods.single import Single
from thinkscale.needs import Capability, Feature, Needs, needs_of, refuse_clashes
from thinkscale.registry import components, nearest, parse
from thinkscale.serve.asking import MOST, tighter
from thinkscale.serve.fitting import (
    EFFORTS,
    REPLACED,
    Passthrough,
    features_of,
    fields_of,
    losses_of,
    refusal,
    scaled,
    suited,
)
from thinkscale.serve.records import Api, Asked, Order
from thinkscale.session import Method
from thinkscale.settings import Profile
from thinkscale.types import Sampling

SEEDS = 2**63 - 1
_UNLIMITED = Budget()
MOST_CALLS = 1024
"""Most calls that one request may lead to."""
_COUNTABLE = 1e15
"""Calls that are told by their number."""


class Menu:
    """What can be asked for, and what is run when it is.

    Args:
        engines: the upstream models by name; the first is the one of profiles that name none. Open ones, because
            whether log-probabilities can be had is looked up.
        profiles: by name; they are listed as models.
        plain: for completions, engines by the same names that continue a text without a chat template; where there is
            none, the prompt is put as a user's message.
        roles: engines that methods draw on by name, such as `judge`.
        method: spec of the method of a request that names none; `single` is the model as it is.
        max_tokens: cap of one call where neither the request nor the profile names one; less where the context is
            smaller than that and the prompt. `None` leaves it to the session.
        most_calls: more than these is refused.
        created: when, in seconds since 1970, for the list of models.

    Raises:
        SettingsError: a profile has the name of a model, or names a model, method or budget that is none.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        profiles: Mapping[str, Profile] | None = None,
        *,
        plain: Mapping[str, Engine] | None = None,
        roles: Mapping[str, Engine] | None = None,
        method: str = "single",
        max_tokens: int | None = None,
        most_calls: int = MOST_CALLS,
        created: int = 0,
    ) -> None:
        if not engines:
            raise SettingsError("the menu has no model: name one with `--upstream` or `--model`")
        self._engines, self._plain, self._roles = dict(engines), dict(plain or {}), dict(roles or {})
        self._profiles = dict(profiles or {})
        self._default = Profile(method=method)
        self._max_tokens, self._most_calls, self._created = max_tokens, most_calls, created
        self._budgets: dict[str, Budget] = {}
        for name, profile in {**self._profiles, "": self._default}.items():
            self._check(name, profile)

    def models(self) -> list[dict[str, object]]:
        """The entries of `/v1/models`: upstream models, then profiles with what they stand for."""
        return [self._entry(name) for name in (*self._engines, *self._profiles)]

    def model(self, name: str) -> dict[str, object]:
        """The entry of one model, which may have a method behind its name.

        Raises:
            ServeError: 404, there is no such model; 400, no such method.
        """
        known, spec = self._split(name)
        if spec is not None and isinstance(found := _fitted(spec, 1.0, 1, ()), str):
            raise _no_method(found, "model")
        return {**self._entry(known), "id": name}

    def order(self, asked: Asked, allowed: Budget | None = None) -> Order:
        """Decide what a request runs.

        Args:
            asked: the request.
            allowed: what is left to whoever asks; the tightest of this, the request's and the profile's budget holds.

        Raises:
            ServeError: 404, an unknown model; 400, an unknown method or field, or something the method cannot carry.
            EngineError: the engine cannot read the messages.
        """
        name, spec = self._split(asked.model)
        if spec is not None and asked.method is not None:
            said = "A method is named twice, behind the model and in 'thinkscale.method': leave one of them out."
            raise ServeError(said, param="thinkscale.method", code="invalid_value")
        profile = self._profiles.get(name, self._default)
        upstream = profile.model or (name if name in self._engines else next(iter(self._engines)))
        engine = self._engines[upstream]
        if asked.api is Api.completions:
            engine = self._plain.get(upstream, engine)
        factor = self._factor(asked)
        named = asked.method if spec is None else spec
        sampling = self._sampling(asked, profile, engine)
        changes = tuple([(field, getattr(sampling, field)) for field in REPLACED])
        # What the owner says may name a file; a client's request never makes the gateway load one.
        fitted = _fitted(profile.method if named is None else named, factor, asked.n, changes, files=named is None)
        if isinstance(fitted, str):
            raise _no_method(fitted, "thinkscale.method" if spec is None else "model")
        self._require(asked, fitted, engine, sampling)
        method, own = fitted.method, self._budgets.get(name, _UNLIMITED)
        budget = tighter(asked.budget, scaled(own, factor), allowed or _UNLIMITED)
        return Order(
            asked=asked,
            method=method,
            engine=engine,
            roles=self._roles,
            sampling=replace(sampling, effort=asked.effort) if isinstance(method, Passthrough) else sampling,
            budget=budget,
            seed=_seed(asked),
            profile=name if name in self._profiles else "",
        )

    def _check(self, name: str, profile: Profile) -> None:
        where = f"the profile `{name}`" if name else "the gateway"
        try:
            self._budgets[name] = Budget.parse(profile.budget)
            parse(profile.method, "method")
        except ThinkscaleError as error:
            raise SettingsError(f"{where} cannot be served: {error}") from None
        if name in self._engines:
            raise SettingsError(f"{where} has the name of a model that is served: call it otherwise")
        if profile.model and profile.model not in self._engines:
            hint = nearest(profile.model, list(self._engines))
            raise SettingsError(f"{where} names the model `{profile.model}`, which is not served{hint}")

    def _entry(self, name: str) -> dict[str, object]:
        entry: dict[str, object] = {"id": name, "object": "model", "created": self._created, "owned_by": "upstream"}
        if profile := self._profiles.get(name):
            told = {"method": profile.method, "model": profile.model or next(iter(self._engines))}
            told |= {"budget": profile.budget, "description": profile.description}
            entry |= {"owned_by": "thinkscale", "thinkscale": told}
        return entry

    def _split(self, name: str) -> tuple[str, str | None]:
        """A name that is served, the longest there is, and the spec behind it."""
        known = {**self._profiles, **self._engines}
        if name in known:
            return name, None
        marks = [at for at, letter in enumerate(name[:1000]) if letter == "+"]
        for at in reversed(marks):
            if name[:at] in known:
                return name[:at], name[at + 1 :]
        shown = name[: marks[0]] if marks else name[:1000]
        said = f"The model `{shown}` does not exist{nearest(shown, list(known))}"
        raise ServeError(said, status=404, param="model", code="model_not_found")

    def _factor(self, asked: Asked) -> float:
        if asked.effort is None:
            return 1.0
        if asked.effort not in EFFORTS:
            supported = ", ".join(f"'{word}'" for word in EFFORTS)
            param = "reasoning.effort" if asked.api is Api.responses else "reasoning_effort"
            said = f"Invalid value: '{asked.effort[:100]}'. Supported values are: {supported}."
            raise ServeError(said, param=param, code="invalid_value")
        return EFFORTS[asked.effort]

    def _sampling(self, asked: Asked, profile: Profile, engine: Engine) -> Sampling:
        """What the request says, and the profile where that says nothing."""
        defaults: dict[str, float | None] = {"temperature": profile.temperature, "top_p": profile.top_p}
        if asked.sampling.max_tokens is None:
            defaults["max_tokens"] = profile.max_tokens or self._room(asked, engine)
        unsaid = {name: value for name, value in defaults.items() if name not in asked.given and value is not None}
        return replace(asked.sampling, **unsaid) if unsaid else asked.sampling  # type: ignore[arg-type]

    def _room(self, asked: Asked, engine: Engine) -> int | None:
        """The cap of a request that names none, no larger than what the context leaves beside the prompt."""
        context = engine.capabilities.context
        if self._max_tokens is None or context is None:
            return self._max_tokens
        read = engine.count(EngineRequest(messages=asked.problem.messages, tools=asked.problem.tools))
        return max(1, min(self._max_tokens, context - read))

    def _require(self, asked: Asked, fitted: Fitted, engine: Engine, sampling: Sampling) -> None:
        """Refuse what would be lost, what the engines cannot do and what would cost too much."""
        for feature in sorted(features_of(asked) & fitted.losses.keys()):
            raise refusal(feature, *fitted.losses[feature])
        if sampling.logprobs is not None and Capability.logprobs not in engine.capabilities.can:
            said = f"The model `{asked.model}` does not tell log-probabilities: leave 'logprobs' out."
            raise ServeError(said, param="logprobs", code="unsupported_feature")
        if missing := sorted(fitted.needs.players - self._roles.keys() - {"main"}):
            said = f"The method `{fitted.method!r}` draws from the role `{missing[0]}`, which no model plays here."
            raise ServeError(said, param="model", code="unsupported_method")
        engines = {"main": engine, **self._roles}
        needs = fitted.needs.served(lambda role: engines.get(role, engine).capabilities.can)
        for role in ("main", *needs.roles):
            playing = engines.get(role, engine).capabilities
            if lacking := sorted(needs.of(role) - playing.can):
                said = f"The method `{fitted.method!r}` needs `{lacking[0]}`"
                lacks = f"which `{playing.name or playing.model}` does not offer: choose another method or scorer."
                raise ServeError(f"{said}, {lacks}", param="model", code="unsupported_method")
        calls = fitted.method.ceiling(sampling.max_tokens or 1).calls
        if self._most_calls < calls < math.inf:
            seen = f"{calls:.0f}" if calls < _COUNTABLE else "too many"
            said = f"The method `{fitted.method!r}` may make {seen} calls: ask for {self._most_calls} at most."
            raise ServeError(said, param="model", code="too_many_calls")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A method as a request wants it, and what follows from it alone."""

    method: Method
    needs: Needs
    losses: Mapping[Feature, tuple[str, str]]
    """What it cannot carry, with the part of it that is in the way and why."""


@lru_cache(maxsize=1024)
def _fitted(
    spec: str, factor: float, n: int, changes: tuple[tuple[str, float | None], ...], *, files: bool = False
) -> Fitted | str:
    """The method of a spec with what a request changes in it; what is wrong with the spec where it cannot be built.

    `single` as it is stands for the model as it is.
    """
    try:
        method = cast(Method, parse(spec, "method", files=files))
        if vast := next((v for part in components(method) for v in _whole(part) if abs(v) > MOST), None):
            return f"a number of {len(str(vast))} digits is too large: the limit is {MOST}"
        method = suited(Passthrough() if method == Single() else method, factor, n, dict(changes))
        refuse_clashes(method)
        return Fitted(method, needs_of(method), losses_of(method))
    except (SpecError, ScorerError) as error:
        return str(error)


def _whole(part: object) -> Iterator[int]:
    """The whole numbers in the fields of a component."""
    values = (getattr(part, f.name) for f in fields_of(part))
    return (v for value in values for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, int))


def _no_method(why: str, param: str) -> ServeError:
    return ServeError(f"The method cannot be used: {why}", param=param, code="invalid_method")


def _seed(asked: Asked) -> int:
    """The request's seed, or a new one: who asks twice without one wants to be told twice. The reply names it."""
    return secrets.randbits(63) if asked.seed is None else asked.seed & SEEDS
