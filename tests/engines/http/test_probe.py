"""What the doctor finds, on a server that ignores nearly everything and on a real one."""

import json
import sys

import pytest
from aiohttp import web

from servers.mock import Beyond, Mock, failure, serving
from servers.real import real_server
from thinkscale.cli import main
from thinkscale.engines.dialects import Prefill
from thinkscale.engines.http import Http
from thinkscale.engines.http import probe as probing
from thinkscale.engines.http.memory import remembered
from thinkscale.engines.http.probe import Finding, Verdict, _tried, capabilities_of, probe, remember
from thinkscale.engines.protocol import Capability
from thinkscale.engines.weights import default_weights


async def found(engine):
    return {f.name: f async for f in probe(engine)}


async def test_what_is_ignored_is_not_called_a_capability():
    async with serving(Mock(says=lambda _: (" 3", " 4", " 5"), most=1, beyond=Beyond.ignores)) as server:
        engine = Http(base_url=server.url)
        seen = await found(engine)
        await engine.aclose()
    verdicts = {name: f.verdict for name, f in seen.items()}
    assert verdicts["n draws by one request"] is Verdict.ignored
    assert verdicts["logprobs"] is Verdict.ignored
    assert verdicts["prefill"] is Verdict.ignored
    assert verdicts["JSON schema"] is Verdict.ignored
    assert verdicts["grammar"] is Verdict.refused
    assert verdicts["stop strings"] is Verdict.verified
    assert verdicts["/pooling"] is Verdict.absent
    assert capabilities_of([*seen.values()], frozenset({Capability.logprobs})) == frozenset()


async def test_findings_go_before_what_is_claimed_for_a_kind_of_server():
    async with serving(Mock(model="m")) as server:
        first = Http(base_url=server.url)
        await first.open()
        assert remembered(first.place) is None
        remember(first, [Finding("prefill", Verdict.verified, "", Capability.prefill)])
        second = Http(base_url=server.url)
        await second.open()
        assert second.capabilities.can == {Capability.prefill}
        assert second.endpoint.habits.prefill is Prefill.no
        for engine in (first, second):
            await engine.aclose()


@pytest.mark.model
def test_the_doctor_of_a_real_server_verifies_what_it_does(monkeypatch, capsys, tmp_path):
    weights = default_weights()
    monkeypatch.setenv("THINKSCALE_HOME", str(tmp_path))
    with real_server(weights, 4) as url:
        monkeypatch.setattr(sys, "argv", ["thinkscale", "doctor", "--base-url", url, "--json"])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["server"] == "llama.cpp"
    assert told["version"]
    assert set(told["can"]) >= {"prefill", "logprobs", "top-logprobs", "seed", "grammar", "json-schema", "logit-bias"}
    assert "min-tokens" not in told["can"]
    rows = {row["name"]: row["verdict"] for row in told["rows"]}
    assert rows["n draws by one request"] == "verified"
    assert rows["/v1/decisions"] == "absent"
    assert list(tmp_path.glob("servers.json"))


class Moody(Mock):
    """Says now this and now that, whatever it is asked."""

    def texts(self, body, n):
        said = ("one", "one", "two")[self.requests % 3]
        return [((said,), "stop", 1)] * n


class Thinker(Mock):
    """A kind of server that takes a budget for thinking; it thinks for longer than it is given, unless it obeys."""

    obeys = True

    async def _models(self, _):
        return web.json_response({"data": [{"id": "thinker", "owned_by": "vllm"}]})

    def texts(self, body, n):
        budget = body.get("thinking_token_budget") if self.obeys else None
        thought = ("<think>", *[" so"] * (400 if budget is None else budget - 1))
        said = (*thought, "</think>", "3 h 9 min")[: body.get("max_tokens")]
        return [(said, "stop", len(said))] * n


class Picky(Mock):
    """Refuses log-probabilities, or is too busy for them."""

    status = 400

    async def respond(self, request, served):
        if served.body.get("logprobs"):
            return failure(self.status, "no logprobs here")
        return await super().respond(request, served)


async def looked(mock, look, **options):
    async with serving(mock) as server:
        engine = Http(base_url=server.url, **options)
        await engine.open()
        finding = await _tried(look, engine, "1, 2, 3")
        await engine.aclose()
    return finding


@pytest.mark.parametrize("look", [probing._seed, probing._logit_bias])
async def test_what_changes_by_itself_is_no_evidence(look):
    for before in range(3):
        assert (await looked(Moody(requests=before), look)).verdict is Verdict.ignored


async def test_draws_that_one_request_did_not_bring_are_not_called_shared():
    async with serving(Mock()) as server:
        engine = Http(base_url=server.url, api="responses")
        await engine.open()
        assert (await _tried(probing._n, engine, "")).verdict is Verdict.ignored
        await engine.aclose()


async def test_what_was_remembered_of_sharing_is_tried_again():
    async with serving(Mock()) as server:
        engine = Http(base_url=server.url)
        await engine.open()
        engine.endpoint.most = 1
        assert (await _tried(probing._n, engine, "")).verdict is Verdict.verified
        await engine.aclose()


async def test_what_is_refused_is_no_capability_and_what_is_refused_for_now_says_nothing():
    claimed = frozenset({Capability.logprobs, Capability.seed})
    refused = await looked(Picky(), probing._logprobs)
    assert refused.verdict is Verdict.refused
    assert capabilities_of([refused], claimed) == {Capability.seed}
    mock = Picky()
    mock.status = 429
    busy = await looked(mock, probing._logprobs)
    assert busy.verdict is Verdict.unclear
    assert capabilities_of([busy], claimed) == claimed


async def test_a_thinking_that_does_not_end_in_time_counts_as_a_long_one():
    obeyed = await looked(Thinker(), probing._thinking_budget)
    assert obeyed.verdict is Verdict.verified
    assert obeyed.detail.startswith("256 tokens of thinking")
    mock = Thinker()
    mock.obeys = False
    assert (await looked(mock, probing._thinking_budget)).verdict is Verdict.ignored


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ({"data": [{"probs": [0.25]}], "created": 1}, Verdict.verified),
        ({"id": "x-1", "created": 1700000000, "data": []}, Verdict.unclear),
    ],
)
async def test_a_reply_without_a_score_is_no_judgement(reply, verdict):
    class Judging(Mock):
        def app(self):
            app = super().app()
            app.router.add_post("/classify", self._judge)
            return app

        async def _judge(self, _):
            return web.json_response(reply)

    async with serving(Judging()) as server:
        engine = Http(base_url=server.url)
        await engine.open()
        assert (await probing._judge(engine, "classify", {"input": "1 + 1 = 2"})).verdict is verdict
        await engine.aclose()


@pytest.mark.parametrize(("tokens", "verdict"), [((" 4", ",", " 5"), "verified"), ((" 7", ",", " 8"), "ignored")])
async def test_log_probabilities_of_other_words_are_no_likelihood(tokens, verdict):
    class Scoring(Mock):
        def app(self):
            app = super().app()
            app.router.add_post("/v1/completions", self._scored)
            return app

        async def _scored(self, _):
            told = {"tokens": tokens, "token_logprobs": [-1.0] * len(tokens)}
            return web.json_response({"choices": [{"index": 0, "text": "".join(tokens), "logprobs": told}]})

        async def _models(self, _):
            return web.json_response({"data": [{"id": "m", "owned_by": "vllm"}]})

    assert (await looked(Scoring(), probing._likelihood, api="completions")).verdict == verdict
