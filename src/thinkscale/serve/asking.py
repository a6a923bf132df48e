"""From the body of a request to `Asked`: everything that the client said, checked, and nothing decided.

What has a place in `Problem` or `Sampling` goes there; every other field is kept in `Sampling.extra` and reaches the
upstream as it came. Pure: it knows no engine, method or profile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from thinkscale.budget import Budget
from thinkscale.errors import BudgetError, ServeError
from thinkscale.registry import nearest
from thinkscale.serve import items
from thinkscale.serve.fields import (
    Json,
    flag,
    invalid,
    missing,
    mistyped,
    number,
    path_of,
    rows,
    shallow,
    table,
    text,
    unsupported,
    whole,
)
from thinkscale.serve.messages import MESSAGES
from thinkscale.serve.records import Api, Asked
from thinkscale.types import AnswerKind, Problem, Sampling

BUDGET_HEADER = "x-thinkscale-budget"
"""Such as `tokens=2000,seconds=30`."""
DEADLINE_HEADER = "x-thinkscale-deadline"
"""Seconds."""
PATIENCE_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
"""What OpenAI's clients say of how many seconds they wait for a reply. A stream is kept alive, a plain reply is not."""
STOPS, STOP_LENGTH = 64, 1000
"""Most stop strings, and most characters of one."""
TOP_LOGPROBS = 20
MOST = 2**53
"""Largest number of a budget or of a method: larger whole ones survive neither JSON nor reckoning."""

_OWN = frozenset({"method", "budget", "trace"})
_COMMON = "model n seed stop logprobs top_logprobs logit_bias temperature top_p stream stream_options tools thinkscale"
_PARTICULAR = {
    Api.chat: "messages max_tokens max_completion_tokens response_format reasoning_effort",
    Api.completions: "prompt max_tokens max_completion_tokens response_format reasoning_effort best_of",
    Api.responses: "input instructions max_output_tokens text reasoning include truncation max_tool_calls store "
    "background",
}
_READ = {api: frozenset(f"{_COMMON} {words}".split()) for api, words in _PARTICULAR.items()}
"""Fields that are understood here; the others are passed on, and so are a few that OpenAI does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for."""

    body: int = 16 * 2**20
    """Bytes; checked where the body is received."""
    sent: int = 2**29
    """Bytes that all calls of a run may send together; checked where its calls are known."""
    messages: int = 2048
    n: int = 128
    nesting: int = 64
    """Levels of objects and arrays."""
    tokens: int | None = None
    """Most tokens that one call may be asked to generate."""
    seconds: float | None = 3600.0
    """Most time for a run, also where the client names none."""


def asked(api: Api, body: Json, headers: Mapping[str, str], limits: Limits) -> Asked:
    """Read a request.

    Args:
        api: the endpoint.
        body: the parsed JSON object.
        headers: with names in lower case, or a mapping that ignores case.
        limits: what may be asked for.

    Raises:
        ServeError: 400, in the words and shape of OpenAI's API, with the field at fault as `param`.
    """
    shallow(body, limits.nesting)
    model = text(body, "model", required=True)
    if not model:
        raise invalid("model", "empty string. Expected the name of a model.", "empty_string")
    for name, why in _REFUSED[api].items():
        if body.get(name) not in (None, False, "", []):
            raise unsupported(name, why)
    sampling = _sampling(api, body, limits)
    own = _own(body)
    stream, store = flag(body, "stream"), flag(body, "store", default=True)
    background = api is Api.responses and flag(body, "background")
    if background and not store:
        raise invalid("store", "a background response is stored until it is retrieved. Leave one of the two out.")
    return Asked(
        api=api,
        model=model,
        problem=_problem(api, body, sampling, limits),
        sampling=sampling,
        given=frozenset([name for name, unsaid in _UNSAID if getattr(sampling, name) != unsaid]),
        n=_choices(api, body, limits),
        stream=stream,
        include_usage=flag(table(body, "stream_options") or {}, "include_usage", "stream_options"),
        effort=_effort(api, body),
        seed=whole(body, "seed"),
        method=text(own, "method", "thinkscale"),
        budget=_budget(own, headers, limits, waits=not stream and not background),
        trace=flag(own, "trace", "thinkscale"),
        store=store,
        background=background,
    )


_UNSAID = [(f.name, getattr(Sampling(), f.name)) for f in fields(Sampling)]
_NO_BUDGET = Budget()
_CAP = {Api.chat: "max_completion_tokens", Api.completions: "max_tokens", Api.responses: "max_output_tokens"}
_CAPS = (*_CAP.values(), "n_predict", "num_predict", "max_new_tokens", "max_length")
"""What servers call the cap of a call; llama.cpp heeds its own name before the one under which a cap is sent."""
_SAID = {Api.chat: "messages", Api.completions: "prompt", Api.responses: "input"}
_NO_STATE = "The gateway keeps no conversations: send all of it in `input`."


def _elsewhere(api: Api) -> dict[str, str]:
    """What others call otherwise: passed on, it would go before what was reserved and made of the request."""
    here = dict.fromkeys(_CAPS, _CAP[api]) | dict.fromkeys(_SAID.values(), _SAID[api]) | {"best_of": "n", "n_cmpl": "n"}
    return {name: f"Use '{known}' instead." for name, known in here.items() if name not in _READ[api]}


_REFUSED: dict[Api, dict[str, str]] = {
    Api.chat: {
        **_elsewhere(Api.chat),
        "functions": "Use 'tools' instead.",
        "function_call": "Use 'tool_choice' instead.",
        "audio": "Answers are text here.",
    },
    Api.completions: {
        **_elsewhere(Api.completions),
        "echo": "Put the prompt before the text yourself, or ask the upstream directly.",
    },
    Api.responses: {
        **_elsewhere(Api.responses),
        "previous_response_id": _NO_STATE,
        "conversation": _NO_STATE,
        "prompt": "The gateway keeps no prompts: send the words in 'instructions' and 'input'.",
        "response_format": "Use 'text.format' instead.",
    },
}
"""Fields that have a meaning at OpenAI which would be lost; told to leave nothing out in silence."""
_OURS = {api: _READ[api] | _REFUSED[api].keys() for api in Api}
"""Fields that are not passed on."""


def tighter(*budgets: Budget) -> Budget:
    """A budget that keeps to all of these."""
    said = [budget for budget in budgets if budget != _NO_BUDGET]
    if len(said) < 2:
        return said[0] if said else _NO_BUDGET
    limits: dict[str, float] = {}
    for budget in said:
        for name, value in budget.limits().items():
            limits[name] = min(value, limits.get(name, math.inf))
    return Budget(**limits)  # type: ignore[arg-type]


def repeats(asked: Asked, before: Asked) -> bool:
    """Whether a request asks for the same as an earlier one; how it is told, and how long one waits, may differ."""
    return _lasting(asked) == _lasting(before)


def _lasting(asked: Asked) -> Asked:
    return replace(asked, stream=False, include_usage=False, budget=replace(asked.budget, seconds=None))


def _problem(api: Api, body: Json, sampling: Sampling, limits: Limits) -> Problem:
    tools = rows(body, "tools") or ()
    for at, tool in enumerate(tools):
        text(tool, "type", f"tools[{at}]", required=True)
        if tool["type"] == "function" and api is Api.chat:
            function = table(tool, "function", f"tools[{at}]")
            text(function or {}, "name", f"tools[{at}].function", required=True)
    shaped = sampling.response_format is not None
    return Problem(
        messages=MESSAGES[api](body, limits.messages),
        answer_kind=AnswerKind.json if shaped else AnswerKind.auto,
        tools=tuple(items.chat_tools(tools) if api is Api.responses else tools),
    )


def _sampling(api: Api, body: Json, limits: Limits) -> Sampling:
    extra = {name: value for name, value in body.items() if name not in _OURS[api]}
    if api is Api.responses:
        if verbosity := (table(body, "text") or {}).get("verbosity"):
            extra["verbosity"] = verbosity
        if "tool_choice" in body:
            extra["tool_choice"] = items.chat_tool_choice(body["tool_choice"])
    return Sampling(
        temperature=number(body, "temperature", least=0, most=2),
        top_p=number(body, "top_p", least=0, most=1),
        top_k=whole(body, "top_k"),
        min_p=number(body, "min_p", least=0, most=1),
        min_tokens=whole(body, "min_tokens", least=0) or 0,
        max_tokens=_cap(api, body, limits),
        stop=_stops(body),
        logprobs=_LOGPROBS[api](body),
        logit_bias=_bias(body),
        response_format=_format(api, body),
        extra=extra,
    )


def _cap(api: Api, body: Json, limits: Limits) -> int | None:
    """The cap of one call, by whichever name; of two that disagree the newer name's counts."""
    names = ("max_output_tokens",) if api is Api.responses else ("max_completion_tokens", "max_tokens")
    caps = [whole(body, name, least=1, most=limits.tokens) for name in names]
    return next((cap for cap in caps if cap is not None), None)


def _stops(body: Json) -> tuple[str, ...]:
    given = body.get("stop")
    stops = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise mistyped("stop", "one of a string or array of strings", given)
    if len(stops) > STOPS:
        raise invalid("stop", f"array too long. Expected at most {STOPS} strings.", "array_above_max_length")
    if not all(0 < len(stop) <= STOP_LENGTH for stop in stops):
        raise invalid("stop", f"every string must have between 1 and {STOP_LENGTH} characters.")
    return tuple(stops)


def _chat_logprobs(body: Json) -> int | None:
    top = whole(body, "top_logprobs", least=0, most=TOP_LOGPROBS)
    if not flag(body, "logprobs"):
        if top:
            raise invalid("top_logprobs", "it needs 'logprobs' to be true.")
        return None
    return top or 0


def _plain_logprobs(body: Json) -> int | None:
    return whole(body, "logprobs", least=0, most=TOP_LOGPROBS)


def _included_logprobs(body: Json) -> int | None:
    """Log-probabilities of responses: a word in `include` asks for them, `top_logprobs` for more of them."""
    included = body.get("include")
    if included is not None and not isinstance(included, list):
        raise mistyped("include", "an array of strings", included)
    top = whole(body, "top_logprobs", least=0, most=TOP_LOGPROBS)
    return (top or 0) if top or "message.output_text.logprobs" in (included or ()) else None


_LOGPROBS: dict[Api, Callable[[Json], int | None]] = {
    Api.chat: _chat_logprobs,
    Api.completions: _plain_logprobs,
    Api.responses: _included_logprobs,
}


def _bias(body: Json) -> dict[int, float]:
    bias: dict[int, float] = {}
    given = table(body, "logit_bias") or {}
    for token in given:
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise invalid("logit_bias", "its keys must be ids of tokens.")
        bias[int(token)] = number(given, token, "logit_bias", least=-100, most=100) or 0.0
    return bias


def _format(api: Api, body: Json) -> Json | None:
    """What the text has to obey, in chat's form; plain text is no such thing."""
    param = "text.format" if api is Api.responses else "response_format"
    asked_for = items.chat_format(body) if api is Api.responses else table(body, "response_format")
    if not isinstance(asked_for, Mapping):
        return None
    kind = text(asked_for, "type", param, required=True)
    if kind == "json_schema" and table(asked_for, "json_schema", param) is None:
        raise missing(f"{param}.json_schema")
    return None if kind == "text" else asked_for


def _effort(api: Api, body: Json) -> str | None:
    if api is Api.responses:
        return text(table(body, "reasoning") or {}, "effort", "reasoning")
    return text(body, "reasoning_effort")


def _choices(api: Api, body: Json, limits: Limits) -> int:
    n = whole(body, "n", least=1, most=limits.n) or 1
    if api is Api.responses and n > 1:
        raise unsupported("n", "A response has one answer: use chat completions, or send several requests.")
    best_of = whole(body, "best_of", least=1) if api is Api.completions else None
    if best_of is not None and best_of != n:
        raise unsupported("best_of", f"Ask the model `…+best-of-n(n={min(best_of, limits.n)})` instead.")
    return n


def _own(body: Json) -> Json:
    """The object of our own fields."""
    own = table(body, "thinkscale") or {}
    for name in own:
        if name not in _OWN:
            param = path_of("thinkscale", name[:100])
            said = f"Unknown parameter: '{param}'{nearest(name[:100], sorted(_OWN))}"
            raise ServeError(said, param=param, code="unknown_parameter")
    return own


def _budget(own: Json, headers: Mapping[str, str], limits: Limits, *, waits: bool) -> Budget:
    """The tightest of what the body, the headers and the limits allow, and of how long a client is known to wait."""
    told = [_budget_of(own.get("budget"), "thinkscale.budget")]
    if (words := headers.get(BUDGET_HEADER)) is not None:
        told.append(_budget_of(words, BUDGET_HEADER))
    if (words := headers.get(DEADLINE_HEADER)) is not None:
        told.append(_budget_of(f"seconds={words}", DEADLINE_HEADER))
    patience = [_patience(header, headers) for header in PATIENCE_HEADERS] if waits else []
    if seconds := min(filter(None, (limits.seconds, *patience)), default=None):
        told.append(Budget(seconds=seconds))
    return tighter(*told)


def _budget_of(given: object, param: str) -> Budget:
    """A budget from an object or a string, large enough for one call.

    Raises:
        ServeError: it is neither, or buys nothing.
    """
    if given is None:
        return _NO_BUDGET
    try:
        budget = Budget.parse(given) if isinstance(given, str) else _budget_from(given, param)
    except BudgetError as error:
        raise invalid(param, f"{error}.") from None
    for name, limit in budget.limits().items():
        if name != "usd" and limit < (1 if name in ("tokens", "calls") else 1e-3):
            raise invalid(param, f"`{name}={limit}` does not pay for one call: allow more, or leave the budget out.")
        if MOST < limit < math.inf:
            raise invalid(param, f"`{name}` is more than can be counted: allow {MOST} at most, or leave it out.")
    return budget


def _budget_from(given: object, param: str) -> Budget:
    if not isinstance(given, Mapping):
        raise mistyped(param, "one of a string or an object", given)
    known = [f.name for f in fields(Budget)]
    for name in given:
        if name not in known:
            said = f"Unknown parameter: '{path_of(param, name[:100])}'{nearest(name[:100], known)}"
            raise ServeError(said, param=path_of(param, name[:100]), code="unknown_parameter")
    limits = {name: limit for name in given if (limit := number(given, name, param)) is not None}
    return Budget(**{name: int(limit) if name in ("tokens", "calls") else limit for name, limit in limits.items()})  # type: ignore[arg-type]


def _patience(header: str, headers: Mapping[str, str]) -> float | None:
    """How long a client waits, less what a reply takes on its way; a header that is no number says nothing."""
    if not (words := headers.get(header)):
        return None
    try:
        seconds = float(words)
    except ValueError:
        return None
    return seconds - min(2.0, 0.1 * seconds) if 0 < seconds < math.inf else None
