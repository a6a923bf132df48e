"""What a server really does: small requests whose replies show whether a wish took effect, not whether it was accepted.

The findings can be kept (`remember`), and an engine opened later on the same model starts from them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from thinkscale.engines.dialects import Prefill
from thinkscale.engines.http.engine import Http
from thinkscale.engines.http.memory import file, read
from thinkscale.engines.http.servers import SGLANG, VLLM
from thinkscale.engines.protocol import Capability, Completion, Request, complete
from thinkscale.errors import EngineError
from thinkscale.types import Message, Origin, Sampling, Segment

COUNT = "Count from 1 to 20, separated by commas."
WORDS = "Write down twenty words that have nothing to do with each other, separated by commas."
PUZZLE = "A train leaves at 9:40 and arrives at 13:05 with two stops of 8 minutes. How long does it move? Think first."
SCHEMA = {"type": "object", "properties": {"zq7": {"const": 41}}, "required": ["zq7"], "additionalProperties": False}
GRAMMAR = 'root ::= "zq7 zq7"'


class Verdict(StrEnum):
    """What was seen of a capability."""

    verified = "verified"
    """It took effect."""
    ignored = "ignored"
    """It was accepted and changed nothing."""
    refused = "refused"
    """The server said no."""
    accepted = "accepted"
    """It was accepted; its effect cannot be seen from here."""
    absent = "absent"
    """There is no such endpoint."""
    unclear = "unclear"
    """What was seen would have looked the same either way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table."""

    name: str
    verdict: Verdict
    detail: str = ""
    capability: Capability | None = None
    """The capability that the row decides."""


async def probe(engine: Http) -> AsyncIterator[Finding]:
    """Try everything a method could want from the engine's server, a few dozen tokens at a time.

    What is verified of prefill is put to use by this very engine at once.

    Raises:
        EngineError: the server cannot be asked at all.
    """
    await engine.open()
    whole = (await _say(engine, COUNT, max_tokens=16)).text
    for look in (_n, _seed, _logprobs, _top_logprobs, _prefill, _likelihood, _stop_strings, _min_tokens, _logit_bias):
        yield await _tried(look, engine, whole)
    for look in (_json_schema, _grammar, _thinking_budget, _end_of_thinking, _priority):
        yield await _tried(look, engine, whole)
    for path, body in _JUDGES:
        yield await _judge(engine, path, body)


_VERSIONS = (("version", "version"), ("server_info", "version"), ("props", "build_info"), ("api/version", "version"))


async def version_of(engine: Http) -> str:
    """The version that the server gives itself; empty where it gives none."""
    for path, name in _VERSIONS:
        try:
            told = await engine.transport.get(path, root=True)
        except EngineError:
            continue
        if isinstance(told, Mapping) and isinstance(version := told.get(name), str):
            return version
    return ""


async def _tried(look, engine: Http, whole: str) -> Finding:  # type: ignore[no-untyped-def]  # noqa: ANN001
    try:
        found: Finding = await look(engine, whole)
    except EngineError as error:
        if error.status is None and error.retryable:
            raise
        name = look.__name__.strip("_").replace("_", "-")
        capability = next((c for c in Capability if c == name), None)
        # A server that is too busy to answer has not said no.
        verdict = Verdict.unclear if error.retryable else Verdict.refused
        return Finding(name.replace("-", " "), verdict, str(error), capability)
    return found


async def _say(
    engine: Http,
    prompt: str,
    *,
    seed: int = 1,
    prefix: str = "",
    continuation: str | None = None,
    temperature: float = 0.0,
    **sampling: object,
) -> Completion:
    segments = (Segment(text=prefix, origin=Origin.sampled),) if prefix else ()
    request = Request(
        messages=(Message("user", prompt),),
        prefix=segments,
        sampling=Sampling(temperature=temperature, **sampling),  # type: ignore[arg-type]
        seeds=(seed,),
        continuation=continuation,
    )
    [said] = await complete(engine, request)
    return said


async def _n(engine: Http, whole: str) -> Finding:
    endpoint = engine.endpoint
    if endpoint.most == 1:
        endpoint.most = None  # what a table or an earlier look says is no evidence
    request = Request(
        messages=(Message("user", COUNT),), sampling=Sampling(temperature=1.0, max_tokens=4), seeds=(1, 2, 3)
    )
    await complete(engine, request)
    most = "any number" if endpoint.most is None else f"up to {endpoint.most}"
    if endpoint.shares and endpoint.most != 1:
        return Finding("n draws by one request", Verdict.verified, most)
    return Finding("n draws by one request", Verdict.ignored, "every draw is asked for by a request of its own")


async def _seed(engine: Http, whole: str) -> Finding:
    one, two, *again = [
        (await _say(engine, WORDS, temperature=1.5, seed=seed, max_tokens=24)).text for seed in (7, 8, 7, 8)
    ]
    verdict = Verdict.verified if again == [one, two] else Verdict.ignored
    if {one} == {two, *again}:
        verdict = Verdict.unclear
    return Finding("seed", verdict, "", Capability.seed)


async def _logprobs(engine: Http, whole: str) -> Finding:
    signals = (await _say(engine, COUNT, max_tokens=4, logprobs=0)).logprobs
    seen = signals is not None and signals.chosen and all(p <= 0 for p in signals.chosen)
    return Finding("logprobs", Verdict.verified if seen else Verdict.ignored, "", Capability.logprobs)


async def _top_logprobs(engine: Http, whole: str) -> Finding:
    signals = (await _say(engine, COUNT, max_tokens=4, logprobs=3)).logprobs
    most = max((len(row) for row in signals.top), default=0) if signals else 0
    verdict = Verdict.verified if most >= 3 else Verdict.ignored
    return Finding("top logprobs", verdict, f"{most} of 3 came", Capability.top_logprobs)


async def _prefill(engine: Http, whole: str) -> Finding:
    half = whole[: len(whole) // 2]
    first = engine.endpoint.habits.prefill
    for style in dict.fromkeys((first, Prefill.flag, Prefill.trailing, Prefill.mark)):
        if style is Prefill.no and engine.api == "chat":
            continue
        engine.endpoint.habits = replace(engine.endpoint.habits, prefill=style)
        try:
            rest = (await _say(engine, COUNT, prefix=half, max_tokens=8)).text
        except EngineError:
            continue
        if half and rest and _goes_on(whole, half + rest):
            return Finding("prefill", Verdict.verified, style.value, Capability.prefill)
    engine.endpoint.habits = replace(engine.endpoint.habits, prefill=first)
    return Finding("prefill", Verdict.ignored, "the model starts afresh", Capability.prefill)


def _goes_on(whole: str, continued: str) -> bool:
    """Whether a continued text agrees with the text that was written in one go, as far as both reach."""
    length = min(len(whole), len(continued))
    return length > len(whole) // 2 and whole[:length] == continued[:length]


async def _likelihood(engine: Http, whole: str) -> Finding:
    name = "prompt logprobs"
    if engine.api != "completions":
        return Finding(name, Verdict.absent, "ask through `api=completions`", Capability.likelihood)
    told = await _say(engine, "1, 2, 3,", continuation=" 4, 5", max_tokens=1, logprobs=0)
    signals = told.logprobs
    spelled = "".join(signals.texts).replace(" ", "") if signals else ""
    # Of a server that writes on instead, they would be of other words.
    seen = signals is not None and len(signals.chosen) >= 2 and (not spelled or spelled.endswith("4,5"))
    return Finding(name, Verdict.verified if seen else Verdict.ignored, "", Capability.likelihood)


async def _stop_strings(engine: Http, whole: str) -> Finding:
    told = await _say(engine, COUNT, max_tokens=32, stop=("4",))
    name = "stop strings"
    if told.stop_string != "4":
        return Finding(name, Verdict.ignored)
    how = "the server says which one fired" if engine.endpoint.habits.tells_stop else "cut on our side"
    return Finding(name, Verdict.verified, how)


async def _min_tokens(engine: Http, whole: str) -> Finding:
    prompt = "Answer with the single word: ok"
    plain = await _say(engine, prompt, max_tokens=24)
    long = await _say(engine, prompt, max_tokens=24, min_tokens=24)
    if plain.tokens >= 24:
        return Finding("min tokens", Verdict.unclear, "the model goes on anyway", Capability.min_tokens)
    verdict = Verdict.verified if long.tokens >= 24 else Verdict.ignored
    return Finding("min tokens", verdict, "", Capability.min_tokens)


async def _logit_bias(engine: Http, whole: str) -> Finding:
    one, two, *again = [
        (await _say(engine, COUNT, max_tokens=3, logit_bias={token: 100.0})).text for token in (1000, 2000, 1000, 2000)
    ]
    verdict = Verdict.verified if again == [one, two] and two != one != whole[: len(one)] else Verdict.ignored
    return Finding("logit bias", verdict, "", Capability.logit_bias)


async def _json_schema(engine: Http, whole: str) -> Finding:
    wish = {"type": "json_schema", "json_schema": {"name": "probe", "schema": SCHEMA, "strict": True}}
    told = await _say(engine, COUNT, max_tokens=40, response_format=wish)
    try:
        seen = json.loads(told.text) == {"zq7": 41}
    except ValueError:
        seen = False
    return Finding("JSON schema", Verdict.verified if seen else Verdict.ignored, "", Capability.json_schema)


async def _grammar(engine: Http, whole: str) -> Finding:
    told = await _say(engine, COUNT, max_tokens=24, grammar=GRAMMAR)
    seen = told.text.strip() == "zq7 zq7"
    return Finding("grammar", Verdict.verified if seen else Verdict.ignored, "", Capability.grammar)


async def _thinking_budget(engine: Http, whole: str) -> Finding:
    name = "thinking budget"
    if "thinking_budget" not in engine.endpoint.habits.sampling:
        return Finding(name, Verdict.absent, "", Capability.thinking_budget)
    free = await _thought(engine, None)
    if free < 48:
        return Finding(name, Verdict.unclear, "the model hardly thinks", Capability.thinking_budget)
    bound = await _thought(engine, 16)
    verdict = Verdict.verified if bound <= 32 else Verdict.ignored
    return Finding(name, verdict, f"{free} tokens of thinking, {bound} under 16", Capability.thinking_budget)


async def _thought(engine: Http, budget: int | None) -> int:
    told = await _say(engine, PUZZLE, max_tokens=256, thinking_budget=budget)
    if told.usage.reasoning_tokens is not None:
        return told.usage.reasoning_tokens
    think = engine.endpoint.think
    thought, closed, _ = told.text.partition(think.close.strip())
    if closed:
        return told.tokens * len(thought) // max(1, len(told.text))
    return told.tokens if think.open.strip() and told.text.lstrip().startswith(think.open.strip()) else 0


async def _end_of_thinking(engine: Http, whole: str) -> Finding:
    name = "live end of thinking"
    try:
        await engine.transport.post("chat/completions/control", {"id": "chatcmpl-none", "action": "reasoning_end"})
    except EngineError as error:
        if error.status is None:
            raise
        if error.status in (404, 405, 501) and "no such endpoint" in str(error):
            return Finding(name, Verdict.absent)
        return Finding(name, Verdict.accepted, "there is an endpoint for it")
    return Finding(name, Verdict.accepted, "there is an endpoint for it")


async def _priority(engine: Http, whole: str) -> Finding:
    engine.endpoint.habits = replace(engine.endpoint.habits, later=None)
    await _say(engine, COUNT, max_tokens=1, extra={"priority": 1})
    if "priority" in engine.endpoint.left_out:
        return Finding("priority", Verdict.refused, "the server knows no such field")
    verdict, later, how = await _order(engine)
    engine.endpoint.habits = replace(engine.endpoint.habits, later=later)
    return Finding("priority", verdict, how)


async def _order(engine: Http) -> tuple[Verdict, int | None, str]:
    """Whether a server goes by priorities, what a later request has more than others, and the same in words."""
    if engine.api != "responses" and engine.server is VLLM:
        how = "smaller values first, if it was started with `--scheduling-policy priority`: one caller cannot see that"
        return Verdict.accepted, 1, how
    if engine.api != "responses" and engine.server is SGLANG:
        told = await engine.transport.get("server_info", root=True)
        if not isinstance(told, Mapping) or not told.get("enable_priority_scheduling"):
            return Verdict.ignored, None, "not used: the server was started without `--enable-priority-scheduling`"
        if told.get("schedule_low_priority_values_first"):
            return Verdict.accepted, 1, "smaller values first, as the server says of itself"
        return Verdict.accepted, -1, "larger values first, as the server says of itself"
    return Verdict.accepted, None, "not used: nobody says which values come first"


_JUDGES: Sequence[tuple[str, Mapping[str, object]]] = (
    ("pooling", {"input": "1 + 1 = 2"}),
    ("classify", {"input": "1 + 1 = 2"}),
    ("score", {"text_1": "1 + 1?", "text_2": "2", "query": "1 + 1?", "items": ["2"]}),
    ("v1/decisions", {"input": "1 + 1 = 2", "questions": [{"type": "predicate", "instructions": "Is it right?"}]}),
)


async def _judge(engine: Http, path: str, body: Mapping[str, object]) -> Finding:
    """Whether an endpoint that judges texts is there and gives numbers."""
    name = f"/{path}"
    try:
        told = await engine.transport.post(path, {"model": engine.endpoint.model, **body}, root=True)
    except EngineError as error:
        if error.status in (404, 405, 501):
            return Finding(name, Verdict.absent)
        return Finding(name, Verdict.refused, str(error))
    return Finding(name, Verdict.verified if _scores(told) else Verdict.unclear)


def _scores(told: object) -> bool:
    """Whether a reply holds a number with a fraction: counts, times and codes are whole."""
    inner = told.values() if isinstance(told, Mapping) else told if isinstance(told, list) else ()
    return isinstance(told, float) or any(map(_scores, inner))


def capabilities_of(findings: Sequence[Finding], claimed: frozenset[Capability]) -> frozenset[Capability]:
    """The claimed capabilities, without what was seen not to work and with what was seen to."""
    seen = {f.capability for f in findings if f.capability and f.verdict is Verdict.verified}
    not_seen = {f.capability for f in findings if f.capability and f.verdict not in (Verdict.verified, Verdict.unclear)}
    return frozenset((claimed | seen) - not_seen)


def remember(engine: Http, findings: Sequence[Finding]) -> Path:
    """Keep what was found for engines opened later; returns the file."""
    path = file()
    known = read(path)
    known[engine.place] = {
        "can": sorted(capabilities_of(findings, engine.capabilities.can)),
        "prefill": engine.endpoint.habits.prefill.value,
        "most": engine.endpoint.most,
        "later": engine.endpoint.habits.later,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return path
