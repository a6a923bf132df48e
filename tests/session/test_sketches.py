"""Six methods of the field as `solve` bodies of at most 15 lines: the verbs of the session are enough for them."""

import ast
import inspect
import math
import random
import textwrap

import pytest

from thinkscale.budget import Cost
from thinkscale.engines.scripted import Line
from thinkscale.prompts import ask
from thinkscale.registry import spec
from thinkscale.scorers import Scorer, judged, shown
from thinkscale.scorers.process_reward import ProcessReward
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.testing import check_method, check_scorer
from thinkscale.types import Message, Outcome, Score


def value(trace):
    """The last score of a trace; the worst where it has none."""
    return trace.scores[-1].value if trace.scores else -math.inf


def flat(groups):
    return [trace for group in groups for trace in group]


@spec
class BeamSearch:
    """Keep the `width` best of `width × ways` beams at every step (Snell et al. 2024)."""

    width: int = 2
    ways: int = 2
    depth: int = 5
    scorer: Scorer = ProcessReward()
    select = Best()

    async def solve(self, problem, llm):
        beams, ended = [llm.open(problem)], []
        for _ in range(self.depth):
            if llm.exhausted or not beams:
                break
            children = await judged(self.scorer, problem, flat(await llm.step(beams, self.ways)), llm)
            best = sorted(children, key=value, reverse=True)[: self.width]
            ended, beams = ended + [t for t in best if not t.growing], [t for t in best if t.growing]
        return Outcome.of(Best()(ended), [*ended, *beams])

    def ceiling(self, cap):
        return (Cost(tokens=cap, calls=1) + self.scorer.ceiling(cap)) * (self.width * self.ways * self.depth)


@spec
class Rsa:
    """Aggregate `k` of the population into a new one, `rounds` times (Venkatraman et al. 2025)."""

    n: int = 4
    k: int = 2
    rounds: int = 2

    async def solve(self, problem, llm):
        chance, earlier = random.Random(llm.seed(problem, "groups")), []
        pool = [*await llm.sample(problem, self.n)]
        for _ in range(self.rounds if len(pool) >= self.k else 0):
            groups = [chance.sample(pool, self.k) for _ in range(self.n)]
            asked = [problem.saying("Candidates:\n" + "\n".join(t.text for t in group)) for group in groups]
            new = flat(await llm.each(asked, under=groups))
            if sum(t.answer is not None for t in new) < self.k:
                break
            earlier, pool = earlier + [t.prune() for t in pool], new
        return Outcome.of(Majority()(pool), [*pool, *earlier])

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1) * (self.n * (1 + self.rounds))


@spec
class ParticleFilter:
    """Resample `n` particles by the reward of their last step (Puri et al. 2025)."""

    n: int = 4
    depth: int = 5
    scorer: Scorer = ProcessReward()

    async def solve(self, problem, llm):
        chance = random.Random(llm.seed(problem, "particles"))
        particles = flat(await llm.step([llm.open(problem)], self.n))
        for _ in range(self.depth):
            if llm.exhausted or not any(t.growing for t in particles):
                break
            particles = await judged(self.scorer, problem, particles, llm)
            weights = [max(value(t), 1e-9) for t in particles]
            chosen = chance.choices(particles, weights, k=self.n)
            particles = flat(await llm.step(chosen))
        return Outcome.of(Majority()(particles), particles)

    def ceiling(self, cap):
        return (Cost(tokens=cap, calls=1) + self.scorer.ceiling(cap)) * (self.n * (self.depth + 1))


@spec
class Sets:
    """Sample, verify, correct what was found wrong, vote over the last ones (Chen et al. 2025)."""

    n: int = 3
    rounds: int = 2

    async def solve(self, problem, llm):
        last, earlier = [*await llm.sample(problem, self.n)], []
        for _ in range(self.rounds):
            checks = await llm.each([question(problem, "Verify", t) for t in last], final=False)
            wrong = [i for i, group in enumerate(checks) if any("no" in reply.text for reply in group)]
            asked = [problem.saying(f"This was wrong: {last[i].text}") for i in wrong]
            for i, group in zip(wrong, await llm.each(asked, under=[[last[i]] for i in wrong]), strict=True):
                if group and group[0].answer:
                    earlier.append(last[i].prune())
                    last[i] = group[0]
        return Outcome.of(Majority()(last), [*last, *earlier])

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1) * (self.n * (1 + 2 * self.rounds))


@spec
class AbMcts:
    """Go wider or deeper by Thompson sampling, with Beta posteriors of the scores (Inoue et al. 2025, AB-MCTS-A)."""

    n: int = 6
    scorer: Scorer = ProcessReward()
    select = Best()

    async def solve(self, problem, llm):
        chance, nodes = random.Random(llm.seed(problem, "tree")), []
        while len(nodes) < self.n and not llm.exhausted:
            parent = max([None, *nodes], key=lambda node: self.draw(node, nodes, chance))
            asked = problem.saying(f"Improve: {parent.text}") if parent else problem
            new = flat(await llm.each([asked], under=[[parent]] if parent else ()))
            if not new:
                break
            nodes += await judged(self.scorer, problem, new, llm)
        return Outcome.of(Best()(nodes), nodes)

    def draw(self, node, nodes, chance):
        below = [min(1, max(0, value(t))) for t in nodes if t.parents[:1] == ((node.path,) if node else ())]
        return chance.betavariate(0.5 + sum(below), 0.5 + sum(1 - r for r in below))

    def ceiling(self, cap):
        return (Cost(tokens=cap, calls=1) + self.scorer.ceiling(cap)) * self.n


@spec
class Judge:
    """Share of the verdicts of a generative judge that say yes (Zhang et al. 2024, GenRM)."""

    votes: int = 3

    async def score(self, problem, traces, llm):
        texts = [shown(t, llm.capabilities.think).text for t in traces]
        asked = [*dict.fromkeys(question(problem, "Judge", text) for text in texts if text)]
        verdicts = await llm.role("judge").each(asked, self.votes, final=False, max_tokens=4)
        said = {prompt: [float("yes" in t.text) for t in group] for prompt, group in zip(asked, verdicts, strict=True)}
        heard = [said.get(question(problem, "Judge", text), []) for text in texts]
        return [Score(value=sum(v) / len(v) if v else -math.inf, kind="judge", votes=tuple(v)) for v in heard]

    def ceiling(self, cap):
        return Cost(tokens=4, calls=1) * self.votes


def question(problem, verb, about):
    return Said("user", f"{verb}: {problem.question}\n{about if isinstance(about, str) else about.text}").alone


class Said(Message):
    """A message that can be looked up, as these have no further fields."""

    @property
    def alone(self):
        return (self,)

    def __hash__(self):
        return hash((self.role, self.content))


def talk(cue):
    """Steps, then an answer; verdicts to questions about them. All of it follows from the seed."""
    if cue.prompt.startswith(("Verify", "Judge")):
        return Line(says="yes" if cue.seed % 3 else "no", pace=0.0)
    left = max(0, 2 - cue.prefix.count("\n\n"))
    steps = [f"Step gives {cue.seed % 7} and so on." for _ in range(left)]
    rewards = tuple((len(step) * 7 % 10) / 10 for step in cue.steps)
    return Line(says="\n\n".join([*steps, f"The answer is {12 + cue.seed % 3}."]), pace=0.0, rewards=rewards)


METHODS = [BeamSearch(), Rsa(), ParticleFilter(), Sets(), AbMcts()]


@pytest.mark.parametrize("method", METHODS, ids=repr)
async def test_a_sketch_is_anytime_accounted_for_and_repeatable(method):
    await check_method(method, script=talk)


async def test_a_generative_judge_is_a_scorer():
    await check_scorer(Judge())


@pytest.mark.parametrize("component", [*METHODS, Judge()], ids=lambda c: type(c).__name__)
def test_a_sketch_has_at_most_fifteen_lines(component):
    body = getattr(type(component), "solve", None) or type(component).score
    [function] = ast.parse(textwrap.dedent(inspect.getsource(body))).body
    assert function.end_lineno - function.lineno <= 15


def test_prompts_come_by_name():
    assert ask("same_meaning", question="?", first="a", second="b")[0].role == "user"
