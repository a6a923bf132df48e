"""Every built-in passes the public conformance suites, and so does a plug-in installed by the test."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from thinkscale.engines.opening import engine_for
from thinkscale.engines.scripted import Cue, Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import SpecError
from thinkscale.registry import BUILT_IN, names, parse
from thinkscale.testing import check_engine, check_method, check_scorer, check_selector

METHODS = (
    "single",
    "self-consistency(n=6)",
    "self-consistency(n=8, stop=fixed)",
    "self-consistency(n=12, stop=ahead-by-2)",
    "best-of-n(n=5)",
    "best-of-n(n=4, scorer=length)",
    "best-of-n(n=4, scorer=outcome-reward)",
    "best-of-n(n=3, scorer=process-reward(reduce=min))",
    "budget-forcing(waits=2, max_thinking=30)",
    "budget-forcing(waits=0, min_thinking=10)",
    "best-of-n(n=3, by=budget-forcing(waits=1, max_thinking=20))",
    "self-consistency(n=5, by=best-of-n(n=2, scorer=mean-logprob))",
    "self-consistency(n=3, by=best-of-n(n=2, scorer=outcome-reward))",
)
CHAIN = {"": {"a": 0.5, " b": 0.5}, "a": {" b": 0.7, "<end>": 0.3}, " b": {"a": 0.6, " c": 0.4}, " c": {"a": 1.0}}
COUNTING = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.mark.parametrize("spec", METHODS)
async def test_every_method_is_anytime_accounted_for_and_repeatable(spec):
    await check_method(parse(spec, "method"))


def test_every_built_in_method_is_checked():
    assert set(BUILT_IN["method"]) <= {spec.partition("(")[0] for spec in METHODS}


@pytest.mark.parametrize("name", BUILT_IN["scorer"])
async def test_every_scorer_judges_what_the_model_said_and_nothing_else(name):
    await check_scorer(parse(name, "scorer"))


@pytest.mark.parametrize("name", BUILT_IN["selector"])
async def test_every_selector_is_pure_and_deaf_to_abstentions(name):
    await check_selector(parse(name, "selector"))


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

    async def test_passes_the_suites(self):
        def talk(cue: Cue) -> Line:
            return Line(says=f" I would say {cue.seed % 2}. The answer is {cue.seed % 2}.", pace=0.0)

        await check_method(parse("echo-vote", "method"), script=talk)
        await check_scorer(parse("vowels", "scorer"))
        await check_selector(parse("last-word", "selector"))
        await check_engine(engine_for("parrot"), prompt="one two three four five six seven eight")
