import contextlib
import dataclasses
import enum
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.built_in import BUILT_IN
from thinkscale.errors import SpecError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.registry import build, components, kebab, lookup, names, parse, spec, spec_of
from thinkscale.scorers.length import Length
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed

TEMPERATURE = st.floats(0, 5, allow_nan=False)
COUNT = st.integers(1, 10**12)
SCORER = st.one_of(
    st.builds(SelfCertainty), st.builds(MeanLogprob), st.builds(Length, prefer=st.sampled_from(["shortest", "longest"]))
)
STOP = st.one_of(st.builds(Fixed), st.builds(AheadByK, k=COUNT))
SELECT = st.one_of(st.builds(Majority), st.builds(Best))
LEAF = st.one_of(
    st.builds(Single, temperature=TEMPERATURE, max_tokens=st.one_of(st.none(), COUNT)),
    st.builds(
        BudgetForcing,
        waits=st.integers(0, 99),
        nudge=st.text(),
        max_thinking=st.one_of(st.none(), COUNT),
        min_thinking=st.integers(0, 99),
        max_answer=st.one_of(st.none(), COUNT),
        temperature=st.one_of(st.none(), TEMPERATURE),
    ),
)
METHOD = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds(BestOfN, n=COUNT, scorer=SCORER, temperature=TEMPERATURE, select=SELECT, by=inner),
        st.builds(SelfConsistency, n=COUNT, temperature=TEMPERATURE, stop=STOP, select=SELECT, by=inner),
    ),
    max_leaves=5,
)


@given(METHOD)
def test_every_method_is_written_as_a_spec_that_reads_back_as_itself(method):
    assert parse(repr(method), "method") == method
    assert repr(parse(repr(method), "method")) == repr(method)


@pytest.mark.parametrize("kind", [k for k in BUILT_IN if k != "engine"])
def test_every_built_in_is_named_after_its_class_and_reads_back(kind):
    for name in BUILT_IN[kind]:
        made = parse(name, kind)
        assert spec_of(made) == name == kebab(type(made).__name__)
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            made.anything = 1


OTHERS = {
    "bool": (True, False),
    "int": (1, 3, 10**20),
    "float": (0.25, 1e-7, 0.1 + 0.2, 1e22, 3.0),
    "str": ("two words", 'a "quote" and a \\ slash', "é, (x)=[1]\n\t", "none", "12", "main", "{question}?"),
    "tuple[str, ...]": ((), ("a", "x, y")),
    "tuple[float, ...]": ((), (0.5, 1e22)),
}
"""Values that a field annotated so may be set to."""


def variants(component):
    """The component with one field set to another value, as far as it takes that."""
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        words = list(type(value)) if isinstance(value, enum.Enum) else OTHERS.get(field.type.split(" |")[0], ())
        for other in words:
            with contextlib.suppress(SpecError):
                yield dataclasses.replace(component, **{field.name: other})


@pytest.mark.parametrize("kind", ["method", "scorer", "selector", "stop-rule"])
def test_whatever_field_is_changed_the_spec_reads_back(kind):
    changed = [other for name in BUILT_IN[kind] for other in variants(parse(name, kind))]
    assert len(changed) > len(BUILT_IN[kind])
    for component in changed:
        assert parse(repr(component), kind) == component


def test_only_what_differs_from_its_default_is_written():
    assert repr(SelfConsistency(n=16, temperature=0.5)) == "self-consistency(temperature=0.5)"
    assert repr(BestOfN(by=BudgetForcing(waits=2))) == "best-of-n(by=budget-forcing(waits=2))"


def test_methods_nest_to_any_sensible_depth():
    text = "best-of-n(n=8, scorer=length(prefer=longest), by=self-consistency(stop=ahead-by-k(k=2), by=single))"
    method = parse(text, "method")
    assert method.by.stop == AheadByK(k=2)
    assert [type(c).__name__ for c in components(method)] == [
        "BestOfN", "Length", "Best", "SelfConsistency", "AheadByK", "Majority", "Single",
    ]  # fmt: skip


def test_ahead_by_4_is_short_for_ahead_by_k_of_4():
    assert parse("ahead-by-4", "stop-rule") == AheadByK(k=4)
    assert parse("self-consistency(stop=ahead-by-12)", "method").stop == AheadByK(k=12)
    with pytest.raises(SpecError, match="`k` twice"):
        parse("ahead-by-4(k=3)", "stop-rule")
    with pytest.raises(SpecError, match="at least 1"):
        parse("ahead-by-0", "stop-rule")


def test_dashes_and_underscores_in_fields_and_trailing_commas_are_the_same():
    assert parse("budget-forcing( max-thinking = 5, )", "method") == BudgetForcing(max_thinking=5)


@pytest.mark.parametrize(("word", "value"), [("none", None), ("None", None), ("7", 7), ("+7", 7)])
def test_optional_numbers_take_none_or_a_number(word, value):
    assert parse(f"budget-forcing(max_thinking={word})", "method").max_thinking == value


@pytest.mark.parametrize("word", ["Wait", '"Wait"', "'Wait'"])
def test_text_may_stand_without_quotes(word):
    assert parse(f"budget-forcing(nudge={word})", "method") == BudgetForcing()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("self-consistancy", "did you mean `self-consistency`"),
        ("best-of-m", "did you mean `best-of-n`"),
        ("xyzzy", "choose one of .*`best-of-n`"),
        ("self-consistency(m=3)", "has no field `m`"),
        ("self-consistency(temprature=3)", "did you mean `temperature`"),
        ("self-consistency(n=3, n=4)", "given `n` twice"),
        ("self-consistency(n=0)", "must be at least 1"),
        ("self-consistency(n=2.5)", "takes int, not `2.5`"),
        ("self-consistency(n=true)", "takes int, not `true`"),
        ("self-consistency(n=none)", "takes int, not `none`"),
        ("self-consistency(n=[1,2])", "takes int"),
        ('self-consistency(n="3")', "takes int"),
        ("self-consistency(stop=majority)", "unknown stop-rule `majority`"),
        ("best-of-n(scorer=length(prefer=loudest))", "`shortest` or `longest`"),
        ("best-of-n(scorer=3)", "takes Scorer, not `3`"),
        ("best-of-n(by=[single])", "takes Method"),
        ("self-consistency(stop=none)", "takes StopRule, not `none`"),
        ("self-consistency(temperature=hot(a=1))", "takes float"),
        ("", "expected a name"),
        ("(", "a name, not `\\(`"),
        ("single(", "expected a field name"),
        ("single)", "expected the end"),
        ("single single", "expected the end"),
        ("single(temperature)", "`field=value` after `temperature`"),
        ("single(temperature=)", "a value, not"),
        ("single(temperature=0.5", "`,` or `\\)`"),
        ("single(temperature=1 2)", "`,` or `\\)`"),
        ('budget-forcing(nudge="open)', "expected"),
        ("__import__('os').system('true')", "expected|unknown"),
    ],
)
def test_a_spec_that_cannot_be_used_is_refused_in_one_sentence_that_says_why(text, says):
    with pytest.raises(SpecError, match=says) as caught:
        parse(text, "method")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "single(" * 3000,
        "best-of-n(by=" * 700 + "single" + ")" * 700,
        "[" * 5000,
        "self-consistency(n=" + "[" * 5000,
        "self-consistency(n=" + "9" * 5000 + ")",
        "ahead-by-" + "9" * 5000,
        "a" * 20_000,
        "single(temperature=" + "1" * 500 + ")",
        "\x00",
        "single(temperature=\ud800)",
        "budget-forcing(nudge='" + "\\" * 4000 + "'",
    ],
)
def test_hostile_specs_are_refused_quickly_and_never_crash(text):
    for kind in ("method", "stop-rule"):
        with pytest.raises(SpecError):
            parse(text, kind)


@given(st.text(alphabet="abens-of()[]=,.'\"0123\\ \n", max_size=60))
def test_any_text_parses_or_is_refused_as_a_spec(text):
    with contextlib.suppress(SpecError):
        assert repr(parse(text, "method"))


def test_a_number_that_is_not_finite_cannot_become_a_count():
    with pytest.raises(SpecError):
        parse("self-consistency(n=1e400)", "method")


def test_fields_annotated_in_the_older_way_take_none_too():
    from typing import Optional

    @dataclasses.dataclass(frozen=True)
    class Old:
        width: Optional[int] = 3  # noqa: UP045

    BUILT_IN["method"]["old"] = "tests_old:Old"
    sys.modules["tests_old"] = type(sys)("tests_old")
    sys.modules["tests_old"].Old = Old
    try:
        assert parse("old(width=none)", "method") == Old(width=None)
    finally:
        del BUILT_IN["method"]["old"], sys.modules["tests_old"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with two methods, one of which cannot be imported, and a name that is already taken."""
    (tmp_path / "plug_in.py").write_text(
        "from thinkscale.registry import spec\n@spec\nclass ThinkTwice:\n    times: int = 2\nsingle = 'not a class'\n"
    )
    (tmp_path / "broken_plug_in.py").write_text("import a_package_that_is_not_there\n")
    info = tmp_path / "plug_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[thinkscale.method]\nthink-twice = plug_in:ThinkTwice\nbroken = broken_plug_in:Broken\n"
        "gone = plug_in:Gone\nodd = plug_in:single\nsingle = plug_in:single\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plug_in", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_method_is_found_by_name_and_reads_back():
    assert "think-twice" in names("method")
    twice = parse("think-twice(times=3)", "method")
    assert (twice.times, repr(twice)) == (3, "think-twice(times=3)")
    assert parse("best-of-n(by=think-twice)", "method").by == type(twice)()


@pytest.mark.usefixtures("installed")
def test_an_installed_package_cannot_replace_a_built_in():
    assert lookup("method", "single") is Single
    assert names("method")["single"] == BUILT_IN["method"]["single"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "says"), [("broken", "a_package_that"), ("gone", "Gone"), ("odd", "not a class")])
def test_a_broken_plug_in_is_named_with_its_reason(name, says):
    with pytest.raises(SpecError, match=says) as caught:
        parse(name, "method")
    assert f"`{name}`" in str(caught.value)


def test_a_record_needs_no_more_than_the_decorator():
    @spec
    class FancyRule:
        width: int
        words: tuple[str, ...] = ()

    made = FancyRule(width=3, words=("a", 'b"\\\n'))
    assert repr(made) == 'fancy-rule(width=3, words=["a", "b\\"\\\\\\n"])'
    with pytest.raises(TypeError):
        FancyRule(3)
    from thinkscale.registry import Call

    BUILT_IN["stop-rule"]["fancy-rule"] = "nowhere:FancyRule"
    sys.modules["nowhere"] = type(sys)("nowhere")
    sys.modules["nowhere"].FancyRule = FancyRule
    try:
        assert parse(repr(made), "stop-rule") == made
        with pytest.raises(SpecError, match="width"):
            build(Call("fancy-rule"), "stop-rule")
    finally:
        del BUILT_IN["stop-rule"]["fancy-rule"], sys.modules["nowhere"]


@pytest.mark.parametrize("spec", ["cascade(levels=single)", "decoding-ensemble(configs=single)", "deepprune(judge=1)"])
def test_a_value_of_another_kind_than_the_field_takes_is_refused(spec):
    with pytest.raises(SpecError, match="takes"):
        parse(spec, "method")


@pytest.mark.parametrize("name", BUILT_IN["method"])
def test_no_number_in_a_spec_makes_a_method_look_cheaper_than_nothing(name):
    for field in dataclasses.fields(lookup("method", name)):
        for value in (-1, -100_000, f"[{-100_000}]"):
            try:
                method = parse(f"{name}({field.name}={value})", "method")
            except SpecError:
                continue
            ceiling = method.ceiling(100)
            assert min(ceiling.tokens, ceiling.calls, ceiling.usd) >= 0, (field.name, value)
