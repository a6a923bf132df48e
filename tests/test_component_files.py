"""Components from files: `FILE.py:Class` wherever a name goes, and one clear sentence where it cannot be used."""

import json
import sys

import pytest

import thinkscale as ts
from serve.orders import menu, request
from thinkscale.api import solve
from thinkscale.cli import main
from thinkscale.engines.opening import engine_for, engines_for
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import ServeError, SpecError
from thinkscale.registry import components, digests_of, parse, spec_of
from thinkscale.settings import Profile
from thinkscale.store import Store
from thinkscale.types import Problem

MINE = '''
from collections.abc import Sequence
from dataclasses import dataclass
from thinkscale.budget import Cost
from thinkscale.engines.tabular import Tabular
from thinkscale.registry import spec
from thinkscale.scorers import Scorer
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.session import Method
from thinkscale.stopping import StopRule
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Outcome, Ranking, Score, Trace

@spec
class Vowels:
    letters: str = "aeiou"

    async def score(self, problem, traces, llm):
        return [Score(value=float(sum(map(t.text.count, self.letters))), kind="vowels") for t in traces]

@spec
class Twice:
    def __call__(self, traces: Sequence[Trace]) -> bool:
        return sum(t.answer is not None for t in traces) >= 2

@spec
class First:
    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        return Majority()(traces[:1])

@spec
class Doubt:
    """Draw n attempts, make each reconsider once, and vote."""

    n: int = 2
    scorer: Scorer = Vowels()
    select: Selector = Majority()
    stop: StopRule = Fixed()
    by: Method | None = None
    also: tuple[Method, ...] = ()

    async def solve(self, problem, llm):
        first = await llm.sample(problem, self.n, by=self.by)
        second = await llm.extend(first, inject=" So")
        return Outcome.of(self.select(second), second)

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1) * (2 * self.n)

class Parrot(Tabular):
    """An engine."""

class Bare:
    async def solve(self, problem, llm): ...
    def ceiling(self, cap): ...

@dataclass(frozen=True)
class Plain:
    async def solve(self, problem, llm): ...
    def ceiling(self, cap): ...

class Child(Doubt):
    """Has no `@spec` of its own."""

@spec
class Half:
    async def solve(self, problem, llm): ...

function = len
'''


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("method", "./mine.py:Doubt"),
        ("method", "./mine.py:Doubt(n=3)"),
        ("method", "self-consistency(by=./mine.py:Doubt(n=3))"),
        ("method", "self-consistency(stop=./mine.py:Twice, select=./mine.py:First)"),
        ("method", "best-of-n(scorer=./mine.py:Vowels)"),
        ("method", 'best-of-n(scorer=./mine.py:Vowels(letters="ae"), by=./mine.py:Doubt(select=best))'),
        ("method", "cascade(levels=[single, ./mine.py:Doubt])"),
        ("method", "./mine.py:Doubt(scorer=length, select=./mine.py:First, stop=ahead-by-k(k=2), also=[single])"),
        ("scorer", "./mine.py:Vowels"),
        ("selector", "./mine.py:First"),
        ("stop-rule", "./mine.py:Twice"),
    ],
)
def test_a_class_of_a_file_stands_wherever_a_name_does_and_its_spec_reads_back(kind, text):
    made = parse(text, kind)
    assert spec_of(made) == text
    assert parse(spec_of(made), kind) == made


def test_however_a_path_is_spelled_it_is_one_class(mine):
    one = parse("mine.py:Doubt", "method")
    assert one == parse(f"{mine}:Doubt", "method") == parse("../" + mine.parent.name + "/mine.py:Doubt", "method")
    assert repr(one) == "./mine.py:Doubt"


def test_the_spec_of_a_file_elsewhere_reads_back_too(tmp_path, monkeypatch):
    folder = tmp_path / "two words, (and) more"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    made = parse(f'"{folder}/mine.py:Doubt"(scorer="./two words, (and) more/mine.py:Vowels", n=5)', "method")
    assert (made.n, type(made.scorer).__module__) == (5, type(made).__module__)
    monkeypatch.chdir(folder.parent.parent)
    assert parse(repr(made), "method") == made
    nested = parse("self-consistency", "method")
    nested = type(nested)(by=made)
    assert parse(repr(nested), "method") == nested


def test_a_file_that_was_edited_is_another_class_and_another_run(mine):
    before = parse("./mine.py:Doubt", "method")
    mine.write_text(MINE.replace("n: int = 2", "n: int = 4"))
    after = parse("./mine.py:Doubt", "method")
    assert (before.n, after.n) == (2, 4)
    assert before != after
    assert digests_of(before) != digests_of(after)
    assert len(digests_of(parse("best-of-n(by=./mine.py:Doubt)", "method"))) == 1
    assert digests_of(parse("best-of-n", "method")) == []


async def test_the_text_of_a_file_is_part_of_the_name_of_a_run(mine):
    store = Store(":memory:")

    async def run_of(method):
        outcome = await solve(Problem.of("2 + 2?"), method, Tabular(), budget=ts.Budget(), store=store)
        return outcome.run

    first = await run_of(parse("./mine.py:Doubt", "method"))
    again = await run_of(parse("./mine.py:Doubt", "method"))
    mine.write_text(MINE + "\n# nothing else\n")
    other = await run_of(parse("./mine.py:Doubt", "method"))
    store.close()
    assert first == again != other


def test_a_file_finds_its_neighbours_and_leaves_the_search_path_alone(tmp_path):
    (tmp_path / "beside_mine.py").write_text("COUNT = 5\n")
    (tmp_path / "other.py").write_text("from beside_mine import COUNT\n" + MINE.replace("int = 2", "int = COUNT"))
    before = list(sys.path)
    assert parse("./other.py:Doubt", "method").n == 5
    assert sys.path == before
    del sys.modules["beside_mine"]


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("./gone.py:Doubt", "method", "there is no file `./gone.py`"),
        ("./mime.py:Doubt", "method", "there is no file `./mime.py`: did you mean `mine.py`"),
        ("~nobody-at-all/mine.py:Doubt", "method", "there is no file"),
        ("./mine.py:Dout", "method", "`./mine.py` has no class `Dout`: did you mean `Doubt`"),
        ("./mine.py:function", "method", "has no class `function`"),
        ("./mine.py:Bare", "method", "`./mine.py:Bare` is no record of hyper-parameters: put `@spec`"),
        ("./mine.py:Plain", "method", "put `@spec`"),
        ("./mine.py:Child", "method", "put `@spec`"),
        ("./mine.py:Half", "method", "`./mine.py:Half` is no method: it has no `ceiling`"),
        ("./mine.py:Vowels", "method", "`./mine.py:Vowels` is no method: it is a scorer"),
        ("./mine.py:Twice", "selector", "is no selector: it is a stop-rule"),
        ("./mine.py:First", "stop-rule", "is no stop-rule: it is a selector"),
        ("./mine.py:Doubt", "engine", "is no engine: it is a method"),
        ("./mine.py:Parrot", "scorer", "is no scorer: it is an engine"),
        ("self-consistency(by=./mine.py:Doubts)", "method", "did you mean `Doubt`"),
        ("./mine.py:Doubt(m=3)", "method", "`./mine.py:Doubt` has no field `m`"),
        ("./mine.py:Doubt(n=x)", "method", "`./mine.py:Doubt.n` takes int"),
        ("./mine.py:Doubt(select=3)", "method", "takes Selector, not `3`"),
        ("./mine.py:Doubt-3", "method", "expected the end"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(text, kind, says):
    with pytest.raises(SpecError) as caught:
        parse(text, kind)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\ny = nothing_of_the_kind\n", "NameError: name 'nothing_of_the_kind' is not defined in line 2"),
        ("def f(:\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 in line 2"),
        ("import a_package_that_is_not_there\n", "ModuleNotFoundError"),
        ("def f():\n    raise ValueError('one\\ntwo')\nf()\n", "ValueError: one two in line 2"),
        ("\x00", "does not import"),
        ("from thinkscale.registry import parse\nparse('./broken.py:Doubt', 'method')\n", "has no class `Doubt`"),
        ("", "has no class `Doubt`, nor any other"),
    ],
)
def test_a_file_that_does_not_import_is_named_with_its_own_error_and_line(tmp_path, source, says):
    (tmp_path / "broken.py").write_text(source)
    for _ in range(2):
        with pytest.raises(SpecError) as caught:
            parse("./broken.py:Doubt", "method")
        assert says in str(caught.value)
        assert "`./broken.py`" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_ask_takes_a_file_in_python(monkeypatch):
    settings = ts.Settings(store="none")
    out = ts.ask("2 + 2?", method="./mine.py:Doubt(n=3)", model="./mine.py:Parrot", settings=settings)
    assert len(out.traces) == 3
    assert ts.ask("2 + 2?", model="tabular", settings=ts.Settings(store="none", method="./mine.py:Doubt")).traces


def test_an_engine_of_a_file_is_a_model_with_arguments_and_a_role():
    assert type(engine_for("./mine.py:Parrot")).__name__ == "Parrot"
    main_engine, roles = engines_for("./mine.py:Parrot(pause=false),judge=./mine.py:Parrot")
    assert type(main_engine).__name__ == type(roles["judge"]).__name__ == "Parrot"


@pytest.fixture
def cli(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["thinkscale", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


def test_the_command_line_takes_a_file_after_m(cli):
    code, out, _ = cli("ask", "2 + 2?", "--model", "tabular", "-m", "./mine.py:Doubt(n=3)", "-b", "calls=4", "--json")
    assert code == 0
    assert json.loads(out)["method"] == "./mine.py:Doubt(n=3)"
    code, out, err = cli("ask", "2 + 2?", "--model", "tabular", "-m", "./mine.py:Bare", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("error: `./mine.py:Bare`")
    assert err.count("\n") == 1


def test_a_file_in_the_settings_is_used(cli, tmp_path):
    (tmp_path / "thinkscale.toml").write_text('method = "./mine.py:Doubt"\nmodel = "tabular"\nstore = "none"\n')
    assert json.loads(cli("ask", "2 + 2?", "--json")[1])["method"] == "./mine.py:Doubt"


def test_rules_of_files_are_tried_on_recorded_pools(cli, tmp_path):
    rows = [{"question": f"{i} + 1?", "gold": str(i + 1)} for i in range(3)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    cli("bench", "sums.jsonl", "--model", "tabular", "-m", "./mine.py:Doubt", "--n", "4", "--json")
    code, out, _ = cli("select", "sums/tabular", "--rules", "./mine.py:Twice,./mine.py:First,majority", "--n", "1,2")
    assert code == 0
    assert "./mine.py:Twice" in out
    assert "./mine.py:First" in out


def profiles(**methods):
    return {name: Profile(method=method) for name, method in methods.items()}


def test_a_profile_of_the_owner_may_name_a_file():
    served = menu(profiles=profiles(mine="./mine.py:Doubt(n=3)"))
    order = served.order(request(model="mine"))
    assert repr(order.method).startswith("./mine.py:Doubt(n=3")


@pytest.mark.parametrize(
    "spec",
    [
        "./mine.py:Doubt",
        "self-consistency(by=./mine.py:Doubt)",
        'self-consistency(by="./mine.py:Doubt")',
        'best-of-n(scorer="./mine.py:Vowels"(letters=a))',
        "cascade(levels=[./mine.py:Doubt])",
        '"./mine.py:Doubt"',
    ],
)
def test_a_request_of_a_client_never_loads_a_file(spec, mine):
    mine.write_text("raise RuntimeError('it was loaded')")
    served = menu()
    for asked in (request(model=f"small+{spec}"), request(thinkscale={"method": spec})):
        with pytest.raises(ServeError) as caught:
            served.order(asked)
        assert caught.value.status == 400
        assert "names a file, and none is loaded here" in str(caught.value)
    with pytest.raises(ServeError, match="names a file"):
        served.model(f"small+{spec}")


def test_a_client_cannot_reach_a_file_through_a_profile_of_the_owner(mine):
    served = menu(profiles=profiles(mine="./mine.py:Doubt"))
    served.order(request(model="mine"))
    with pytest.raises(ServeError, match="names a file"):
        served.order(request(model="mine+./mine.py:Doubt"))


def test_parts_of_a_method_from_a_file_are_found():
    made = parse("./mine.py:Doubt(by=single, also=[best-of-n])", "method")
    assert [type(c).__name__ for c in components(made)].count("BestOfN") == 1
