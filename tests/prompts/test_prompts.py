"""Prompts by name: ours, a plug-in's own, a user's folder; what does not fit is refused in one sentence."""

import json
import sys
from pathlib import Path

import pytest

import thinkscale as ts
from thinkscale import prompts
from thinkscale.api import solve
from thinkscale.cli import main
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import SettingsError
from thinkscale.methods.single import Single
from thinkscale.prompts import render, using
from thinkscale.registry import parse
from thinkscale.store import Store
from thinkscale.types import Problem

OURS = sorted(p.stem for p in Path(prompts.__file__).parent.glob("*.txt"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "mine"
    made.mkdir()
    return made


def write(folder, name, text):
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_a_template_is_filled_in():
    assert "12 rolls" in render("cascade_hint", answer="12 rolls")


def test_what_is_filled_in_is_never_read_as_a_template():
    assert "{answer} {x!r} {" in render("cascade_hint", answer="{answer} {x!r} {")


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("cascade_hind", {}, "no prompt template `cascade_hind`: did you mean `cascade_hint`"),
        ("zzz", {}, "choose one of"),
        ("cascade_hint", {}, "`cascade_hint` has the field `{answer}`, which is not given"),
        ("cascade_hint", {"answr": 1}, "`cascade_hint` has the field `{answer}`, which is not given: did you mean"),
        ("cascade_hint", {"answer": 1, "temperature": 0}, "`cascade_hint` has no field `{temperature}`"),
        ("self_calibration", {"question": ""}, "`self_calibration` has no field `{question}`: it has none"),
        ("../secret", {}, "names no prompt template"),
        ("thinkscale.prompts:../x", {}, "names no prompt template"),
        ("", {}, "names no prompt template"),
        ("a_package_that_is_not_there:x", {}, "`a_package_that_is_not_there` does not import"),
        (".:x", {}, "does not import"),
        ("thinkscale.prompts:cascade_hind", {}, "did you mean `cascade_hint`"),
        ("thinkscale.methods:critic", {}, "put `critic.txt` beside that module"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_in_one_sentence(name, fields, says):
    with pytest.raises(SettingsError) as caught:
        render(name, **fields)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_of_a_package_is_named_with_its_package():
    assert render("thinkscale.prompts:cascade_hint", answer="4") == render("cascade_hint", answer="4")


def test_a_folder_goes_before_ours_for_as_long_as_it_is_used(folder):
    write(folder, "cascade_hint", "Somebody said {answer}. {{braces}}")
    write(folder, "critic", "What is wrong with {answer}?")
    ours = render("cascade_hint", answer="4")
    with using(folder):
        assert render("cascade_hint", answer="4") == "Somebody said 4. {braces}"
        assert render("critic", answer="4") == "What is wrong with 4?"
        with pytest.raises(SettingsError, match="did you mean `critic`"):
            render("critik")
    assert render("cascade_hint", answer="4") == ours


def test_a_template_of_the_folder_may_leave_out_what_ours_says(folder):
    write(folder, "p_true", "{question} Is it {answer}?")
    with using(folder):
        assert render("p_true", question="2 + 2?", ideas="", answer="4", examples="") == "2 + 2? Is it 4?"
        with pytest.raises(SettingsError, match=r"no field `\{temperature\}`"):
            render("p_true", question="2 + 2?", answer="4", temperature=0)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cascade_hint", "It is {anwser}", "in `{folder}` has the field `{anwser}`, which is not given: did you mean"),
        ("cascade_hint", "It is {}", "has the field `{}`"),
        ("cascade_hint", "{answer.__class__}", "has the field `{answer.__class__}`"),
        ("cascade_hint", "{answer", "cannot be read"),
        ("own", "one } brace", "cannot be read"),
    ],
)
def test_a_folder_with_a_template_that_does_not_fit_is_refused_before_anything_is_spent(folder, name, text, says):
    write(folder, name, text)
    engine = Scripted(["4"])
    settings = ts.Settings(store="none", prompts=str(folder))
    with pytest.raises(SettingsError) as caught:
        ts.ask("2 + 2?", method="single", model=engine, settings=settings)
    assert says.replace("{folder}", str(folder)) in str(caught.value)
    assert f"`{name}`" in str(caught.value)
    assert not engine.cues


def test_a_folder_that_is_none_or_holds_no_text_is_refused(folder, tmp_path):
    with pytest.raises(SettingsError, match="there is no folder"):
        prompts.use(tmp_path / "nowhere")
    (folder / "x.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SettingsError, match="cannot be read"):
        prompts.use(folder)


def test_format_specs_that_do_not_fit_are_refused(folder):
    write(folder, "own", "{n:d}")
    with using(folder), pytest.raises(SettingsError, match="cannot be filled in"):
        render("own", n="four")


@pytest.mark.parametrize("name", OURS)
def test_every_template_of_ours_can_be_replaced_by_itself(folder, name):
    write(folder, name, (Path(prompts.__file__).parent / f"{name}.txt").read_text(encoding="utf-8"))
    with using(folder):
        assert prompts.digest()


async def test_the_texts_of_the_folder_are_part_of_the_name_of_a_run(folder):
    store = Store(":memory:")

    async def run_of():
        outcome = await solve(Problem.of("2 + 2?"), Single(), Scripted(lambda _: "4"), budget=ts.Budget(), store=store)
        return outcome.run

    without = await run_of()
    write(folder, "critic", "one")
    with using(folder):
        one, again = await run_of(), await run_of()
    write(folder, "critic", "two")
    with using(folder):
        two = await run_of()
    assert one == again
    assert len({without, one, two}) == 3
    assert await run_of() == without
    store.close()


def test_another_text_is_another_draw(folder):
    write(folder, "verbalised_confidence", "{question}: {attempt}. How sure, from 0 to 100?")
    heard = []

    def script(cue):
        heard.append(cue.prompt)
        return "90" if "sure" in cue.prompt or "likely" in cue.prompt else "The answer is 4"

    method = "best-of-n(n=1, scorer=verbalised-confidence)"
    for where in ("", str(folder)):
        ts.ask("2 + 2?", method=method, model=Scripted(script), settings=ts.Settings(store="none", prompts=where))
    assert "How likely" in heard[1]
    assert "How sure" in heard[3]


MINE = """
from thinkscale.budget import Cost
from thinkscale.prompts import ask
from thinkscale.registry import spec
from thinkscale.selection.majority import Majority
from thinkscale.types import Outcome

@spec
class Asking:
    async def solve(self, problem, llm):
        traces = await llm.sample(ask(f"{__name__}:doubt", question=problem.question))
        return Outcome.of(Majority()(traces), traces)

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1)
"""


def test_a_file_has_its_prompts_beside_it(folder, monkeypatch):
    (folder / "mine.py").write_text(MINE)
    write(folder, "doubt", "Doubt this: {question}")
    engine = Scripted(lambda cue: f"The answer is {len(cue.prompt)}")
    method = parse(f"{folder}/mine.py:Asking", "method")
    ts.ask("2 + 2?", method=method, model=engine, settings=ts.Settings(store="none"))
    assert engine.cues[0].prompt == "Doubt this: 2 + 2?"


def test_the_command_line_and_the_settings_take_a_folder(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    write(folder, "cascade_hint", "Said: {answre}")
    for extra, setting in ((["--prompts", "mine"], ""), ([], 'prompts = "mine"\n')):
        (tmp_path / "thinkscale.toml").write_text(setting)
        for command in (["ask", "2 + 2?"], ["bench", "sums.jsonl"]):
            (tmp_path / "sums.jsonl").write_text(json.dumps({"question": "2 + 2?", "gold": "4"}) + "\n")
            monkeypatch.setattr(sys, "argv", ["thinkscale", *command, "--model", "tabular", "--json", *extra])
            with pytest.raises(SystemExit) as left:
                main()
            assert left.value.code == 2
            assert "`cascade_hint` in `mine` has the field `{answre}`" in capsys.readouterr().err
    assert prompts.digest() == ""
