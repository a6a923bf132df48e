"""Every built-in passes the public conformance suites, and so does a plug-in installed by the test."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from thinkscale.built_in import BUILT_IN
from thinkscale.engines.opening import engine_for
from thinkscale.engines.scripted import Cue, Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import SettingsError, SpecError
from thinkscale.prompts import render
from thinkscale.registry import names, parse
from thinkscale.testing import check_engine, check_method, check_scorer, check_selector, check_stop_rule, talk

METHODS = (
    "single",
    "self-consistency(n=6)",
    "self-consistency(n=8, stop=fixed)",
    "self-consistency(n=12, stop=ahead-by-2)",
    "self-consistency(n=8, stop=adaptive-consistency(threshold=0.8, prior=dirichlet))",
    "self-consistency(n=8, stop=best-of-infinity(prior=paper))",
    "self-consistency(n=8, stop=esc(w=2))",
    "self-consistency(n=8, stop=decided-majority)",
    "deepconf-online(n=8, warmup=3, window=4, top=2)",
    "deepconf-online(n=6, warmup=2, keep=10, window=3, top=1, consensus=none)",
    "deepprune(n=6, probe_tokens=6, answer_tokens=8)",
    "deepprune(n=5, probe_tokens=6, answer_tokens=3, per_cluster=2, max_clusters=2)",
    "atts(calibration=[[1.2, 1.5, 1.1, 2.0], [1.3, 1.4, 1.9]], alpha=0.4, chunk=6, turns=4)",
    "atts(calibration=[[1.2, 1.5, 1.1, 2.0]], alpha=0.4, chunk=6, turns=3, resample=true)",
    "cascade(levels=[self-consistency(n=3), best-of-n(n=5, scorer=mean-logprob)])",
    "cascade(levels=[single, self-consistency(n=3), best-of-n(n=2)], accept=[1.1, 0.9], measure=margin, carry=hint)",
    "cascade(levels=[best-of-n(n=2), on(method=self-consistency(n=3))], carry=prefill, accept=1.0)",
    "on(method=best-of-n(n=3))",
    "on",
    "self-consistency(n=3, by=cascade(levels=[self-consistency(n=2), deepprune(n=2, probe_tokens=5)], accept=1.0))",
    "best-of-n(n=5)",
    "best-of-n(n=4, scorer=length)",
    "best-of-n(n=4, scorer=outcome-reward)",
    "best-of-n(n=3, scorer=process-reward(reduce=min))",
    "best-of-n(n=4, scorer=entropy)",
    "best-of-n(n=4, scorer=group-confidence)",
    "best-of-n(n=4, scorer=self-certainty-top-k)",
    "best-of-n(n=4, scorer=p-true)",
    "best-of-n(n=4, scorer=self-calibration)",
    "best-of-n(n=4, scorer=verbalised-confidence)",
    "self-consistency(n=3, by=best-of-n(n=2, scorer=verbalised-confidence(max_tokens=9)))",
    "budget-forcing(waits=2, max_thinking=30)",
    "budget-forcing(waits=0, min_thinking=10)",
    "best-of-n(n=3, by=budget-forcing(waits=1, max_thinking=20))",
    "self-consistency(n=5, by=best-of-n(n=2, scorer=mean-logprob))",
    "self-consistency(n=3, by=best-of-n(n=2, scorer=outcome-reward))",
    "universal-self-consistency(n=5)",
    "universal-self-consistency(n=3, max_tokens=8, by=best-of-n(n=2, scorer=length))",
    "semantic-consistency(n=5)",
    "semantic-consistency(n=4, comparisons=2)",
    "ensemble(models=[main, small, large], weights=[0.2, 0.5, 0.3], n=3)",
    "ensemble(models=[small, large], n=2, by=self-consistency(n=2))",
    "self-consistency(n=3, by=ensemble(models=[main, small], n=2))",
    "decoding-ensemble(per_config=2)",
    'decoding-ensemble(configs=[single, on(role=small, method=single(system="Be brief.")), best-of-n(n=2)])',
    "tool-call-best-of-n(n=5)",
    "tool-call-best-of-n(n=4, exclude=[why], judge=length)",
)
STOP_RULES = (
    "ahead-by-1",
    "adaptive-consistency(prior=dirichlet, threshold=0.6)",
    "best-of-infinity(prior=paper, factor=1)",
    "esc(w=2)",
    "majority-share(after=1, threshold=0.5)",
    "confidence-mass(after=1, threshold=0.1)",
    "early-exit(threshold=0.1, count=2)",
    "soft-adaptive(threshold=0.2)",
)
"""With fields under which they fire on the pools of the suite."""
CHAIN = {"": {"a": 0.5, " b": 0.5}, "a": {" b": 0.7, "<end>": 0.3}, " b": {"a": 0.6, " c": 0.4}, " c": {"a": 1.0}}
COUNTING = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.mark.parametrize("spec", METHODS)
async def test_every_method_is_anytime_accounted_for_and_repeatable(spec):
    await check_method(parse(spec, "method"), script=SCRIPTS.get(spec.partition("(")[0], talk))


def choosing(cue: Cue) -> Line:
    if "The most consistent is" in cue.prompt:
        return Line(says=f" Hm. The most consistent is Response {1 + cue.seed % 4}.", pace=0.0)
    return talk(cue)


def comparing(cue: Cue) -> Line:
    if "yes or no" in cue.prompt:
        return Line(says=" They are close. Yes." if cue.seed % 3 else " No.", pace=0.0)
    return replace(talk(cue), says=f" Step {cue.seed % 9}. The answer is {cue.seed % 5}.")


def calling(cue: Cue) -> Line:
    given = ('{"x": 1}', '{ "x": 1.0, "why": "it is one" }', '{"x": 2', "")[cue.seed % 4]
    called = {"type": "function", "function": {"name": "press", "arguments": given}}
    return replace(talk(cue), calls=(called,) if cue.seed % 5 else ())


SCRIPTS = {
    "universal-self-consistency": choosing,
    "semantic-consistency": comparing,
    "tool-call-best-of-n": calling,
}


def test_every_built_in_method_is_checked():
    assert set(BUILT_IN["method"]) <= {spec.partition("(")[0] for spec in METHODS}


@pytest.mark.parametrize("name", BUILT_IN["scorer"])
async def test_every_scorer_judges_what_the_model_said_and_nothing_else(name):
    await check_scorer(parse(name, "scorer"))


@pytest.mark.parametrize("name", BUILT_IN["selector"])
async def test_every_selector_is_pure_and_deaf_to_abstentions(name):
    await check_selector(parse(name, "selector"))


@pytest.mark.parametrize("name", [*BUILT_IN["stop-rule"], *STOP_RULES])
def test_every_stop_rule_is_pure_and_deaf_to_abstentions(name):
    check_stop_rule(parse(name, "stop-rule"))


@pytest.mark.parametrize(
    "engine",
    [Scripted(lambda cue: COUNTING[len(cue.prefix) :]), Tabular(CHAIN), Tabular(CHAIN, pause=True)],
    ids=["scripted", "tabular", "tabular that pauses"],
)
async def test_every_fake_keeps_the_engine_protocol(engine):
    await check_engine(engine)


@pytest.mark.model
async def test_the_embedded_engine_keeps_the_engine_protocol():
    await check_engine(engine_for("embedded"))


async def test_a_method_that_is_no_record_of_hyper_parameters_is_caught():
    class Forgetful:
        async def solve(self, problem, llm): ...

    with pytest.raises(AssertionError, match="dataclass"):
        await check_method(Forgetful())


async def test_a_scorer_that_judges_injected_text_is_caught():
    class Wordy:
        async def score(self, problem, traces, llm):
            from thinkscale.types import Score

            return [Score(value=float(len(t.text)), kind="wordy") for t in traces]

    with pytest.raises(AssertionError, match="injected"):
        await check_scorer(Wordy())


async def test_an_engine_that_loses_a_draw_is_caught():
    class Lossy(Scripted):
        async def stream(self, request, abort=None):
            async for chunk in super().stream(request, abort):
                if chunk.index < 2:
                    yield chunk

    with pytest.raises(AssertionError, match="3 draws were asked for, 2 came"):
        await check_engine(Lossy(lambda cue: COUNTING))


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """The plug-in in `tests/extension_package`, built and installed as a user would install it."""
    folder = tmp_path_factory.mktemp("installed")
    source = Path(__file__).parent / "extension_package"
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", *install], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))


@pytest.mark.usefixtures("extension")
class TestAnInstalledPlugIn:
    def test_is_found_by_name(self):
        assert {"echo-vote"} <= set(names("method"))
        assert repr(parse("echo-vote(n=2)", "method")) == "echo-vote(n=2)"

    def test_nests_with_the_built_ins(self):
        spec = "self-consistency(n=4, stop=twice, select=last-word, by=echo-vote(n=2))"
        assert repr(parse(spec, "method")) == spec
        assert repr(parse("best-of-n(scorer=vowels)", "method")) == "best-of-n(scorer=vowels)"

    def test_is_offered_when_a_name_is_nearly_its_own(self):
        with pytest.raises(SpecError, match="did you mean `echo-vote`"):
            parse("echo-votes", "method")

    def test_has_prompts_of_its_own(self):
        assert "Every step follows" in render("thinkscale_extension.prompts:criteria")
        with pytest.raises(SettingsError, match="did you mean `criteria`"):
            render("thinkscale_extension.prompts:criterion")
        with pytest.raises(SettingsError, match=r"put `look\.txt` beside that module"):
            render("thinkscale_extension.echo_vote:look")

    async def test_passes_the_suites(self):
        def talk(cue: Cue) -> Line:
            return Line(says=f" I would say {cue.seed % 2}. The answer is {cue.seed % 2}.", pace=0.0)

        await check_method(parse("echo-vote", "method"), script=talk)
        await check_scorer(parse("vowels", "scorer"))
        await check_selector(parse("last-word", "selector"))
        check_stop_rule(parse("twice", "stop-rule"))
        check_method(parse("second-look(n=2)", "method"))
        await check_engine(engine_for("parrot"), prompt="one two three four five six seven eight")
