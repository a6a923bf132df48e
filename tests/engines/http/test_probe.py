"""What the doctor finds, on a server that ignores nearly everything and on a real one."""

import json
import sys

import pytest

from servers.mock import Beyond, Mock, serving
from servers.real import real_server
from thinkscale.cli import main
from thinkscale.engines.dialects import Prefill
from thinkscale.engines.http import Http
from thinkscale.engines.http.probe import Finding, Verdict, capabilities_of, probe, remember, remembered
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
