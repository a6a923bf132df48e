import io
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest
from rich.console import Console

from thinkscale.budget import Budget
from thinkscale.cli import COMMANDS, EXTRAS, main
from thinkscale.cli.live import Live
from thinkscale.cli.report import outcome_report
from thinkscale.registry import names
from thinkscale.selection.majority import Majority
from thinkscale.session import Event
from thinkscale.types import Answer, Finish, Outcome, Trace

KEYS = {"run", "answer", "confidence", "method", "model", "seed", "stopped", "needed", "paid", "votes", "usage"}
KEYS |= {"budget", "warnings"}
USAGE = {"calls", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "seconds", "usd"}
ASK = ("ask", "What is 2 + 2?", "--model", "tabular")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run the command line in this process; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["thinkscale", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


def process(*arguments, **options):
    command = [sys.executable, "-c", "from thinkscale.cli import main; main()", *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_json_is_one_object_with_exactly_the_promised_keys(cli):
    code, out, err = cli(*ASK, "--json", "--budget", "tokens=40", "--seed", "3")
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert set(said) == KEYS
    assert set(said["usage"]) == USAGE
    assert {k for v in said["votes"] for k in v} == {"answer", "count", "weight"}
    assert (said["model"], said["seed"], said["budget"]) == ("tabular", 3, {"tokens": 40})
    assert said["method"] == "self-consistency"
    assert said["usage"]["output_tokens"] <= 40


def test_what_is_said_again_with_the_same_seed_is_the_same(cli):
    first, second = (json.loads(cli(*ASK, "--json")[1]) for _ in range(2))
    assert first["usage"].pop("seconds") >= 0
    second["usage"].pop("seconds")
    assert first == second


def test_the_answer_is_on_stdout_with_its_votes_and_its_bill(cli):
    code, out, err = cli(*ASK, "-m", "self-consistency(n=5, stop=fixed)")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith(("4 ", "5 ", "6 "))
    assert "5 calls, 15 tokens generated" in out
    assert "thinkscale show" in out


def test_quiet_prints_the_answer_and_nothing_else(cli):
    assert cli(*ASK, "-m", "single", "--quiet") == (0, "4\n", "")


def test_the_question_may_come_from_standard_input():
    with process("ask", "-", "--model", "tabular", "-q", "-m", "single", stdin=subprocess.PIPE) as asked:
        out, err = asked.communicate("What is 2 + 2?\n", timeout=120)
    assert (asked.returncode, out, err) == (0, "4\n", "")


def test_a_dry_run_prints_the_worst_case_and_records_nothing(cli, tmp_path):
    code, out, _ = cli(*ASK, "--dry-run", "-m", "best-of-n(n=3)", "--max-tokens", "100")
    assert (code, out) == (0, "best-of-n(n=3) would make at most 3 calls, 300 generated tokens\n")
    code, out, _ = cli(*ASK, "--dry-run", "--json", "-m", "best-of-n(n=3)", "-b", "tokens=7")
    assert json.loads(out) == {"method": "best-of-n(n=3)", "calls": 3, "tokens": 7, "budget": {"tokens": 7}}
    assert not (tmp_path / "home").exists()


def test_a_budget_that_buys_no_answer_is_a_failure_that_says_so(cli):
    code, out, err = cli(*ASK, "-b", "tokens=0")
    assert code == 1
    assert "allow more with `--budget`" in err
    code, out, _ = cli(*ASK, "-b", "tokens=0", "--json")
    assert (code, json.loads(out)["answer"], json.loads(out)["stopped"]) == (1, None, "budget")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((*ASK, "-m", "self-consistancy"), 2, "did you mean `self-consistency`"),
        ((*ASK, "-m", "single("), 2, "expected a field name"),
        ((*ASK, "-m", "single(heat=1)"), 2, "no field `heat`"),
        ((*ASK, "-m", "self-consistency(n=" + "9" * 5000 + ")"), 2, "too long"),
        ((*ASK, "-b", "tokens=lots"), 2, "needs a number"),
        ((*ASK, "-b", "tokens=-3"), 2, "0 or more"),
        ((*ASK, "-b", "minutes=3"), 2, "unknown budget"),
        (("ask", " ", "--model", "tabular"), 2, "question is empty"),
        (("ask", "?", "--model", "tabula"), 1, "did you mean `tabular`"),
        (("ask", "?", "--model", "nowhere/at/all.gguf"), 1, "nowhere/at/all.gguf"),
        (("list", "metods"), 2, "did you mean `methods`"),
        (("show", "abc"), 1, "ask something first"),
    ],
)
def test_what_cannot_be_understood_is_one_sentence_on_stderr(cli, arguments, code, says):
    seen, out, err = cli(*arguments)
    assert (seen, out) == (code, "")
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [("aks", "?"), ("ask",), (*ASK, "--sed", "1"), (*ASK, "--seed", "x"), (*ASK, "--max-tokens", "0"), (*ASK, "more"),
     (*ASK, "--kind", "poem"), (*ASK, "--concurrency", "0")],
)  # fmt: skip
def test_a_wrong_flag_is_explained_without_a_traceback(cli, arguments):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "Error" in err or "error" in err


def test_a_bad_settings_file_or_variable_is_one_sentence(cli, tmp_path, monkeypatch):
    (tmp_path / "thinkscale.toml").write_bytes(b"model = '\xff'")
    assert cli(*ASK)[0] == 2
    (tmp_path / "thinkscale.toml").unlink()
    monkeypatch.setenv("THINKSCALE_SEED", "x")
    code, _, err = cli("ask", "?")
    assert (code, err.count("\n")) == (2, 1)


def test_input_that_is_no_text_is_one_sentence():
    command = [sys.executable, "-c", "from thinkscale.cli import main; main()", "ask", "-", "--model", "tabular"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    asked = subprocess.run(command, input=b"\xff\xfe", capture_output=True, env=environment, timeout=120, check=False)
    assert asked.returncode == 2
    assert asked.stderr.startswith(b"error: ")
    assert asked.stderr.count(b"\n") == 1


def test_a_terminal_without_our_letters_gets_others(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    for arguments in (ASK, ("show",), ("list", "runs")):
        with process(*arguments, env=environment) as asked:
            out, err = asked.communicate(timeout=120)
        assert (asked.returncode, err) == (0, "")
        assert out


def test_attempts_that_their_cap_cut_off_are_named_with_the_flag_that_raises_it(cli):
    ask = (*ASK, "-m", "self-consistency(n=2)")
    said = cli(*ask, "--max-tokens", "1")[2]
    assert "1 of 2 attempts were cut off before they answered: raise `--max-tokens`" in said
    assert "the most advanced one was asked for its answer where it stood" in said
    assert "cut off" not in cli(*ask)[2]


def test_any_seed_however_large_is_a_seed(cli):
    code, out, _ = cli(*ASK, "--seed", "99999999999999999999", "--json")
    assert (code, json.loads(out)["seed"]) == (0, 99999999999999999999)
    assert cli("list", "runs")[0] == 0


def test_a_store_that_is_none_is_refused_before_anything_is_asked(cli, tmp_path):
    (tmp_path / "notes.txt").write_text("dear diary" * 50)
    for arguments in (ASK, ("list", "runs"), ("show",)):
        code, out, err = cli(*arguments, "--store", "notes.txt")
        assert (code, out) == (1, "")
        assert "not a store" in err


def test_a_run_that_cannot_be_recorded_still_answers_and_warns(cli, tmp_path):
    code, out, err = cli(*ASK, "-q", "-m", "single", "--store", str(tmp_path))
    assert (code, out) == (0, "4\n")
    assert err.startswith("warning: ")


@pytest.mark.parametrize("what", ["methods", "method", "scorers", "selectors", "stop-rules", "engines", "runs"])
def test_everything_that_can_be_listed_is_listed_both_ways(cli, what):
    cli(*ASK, "-m", "single")
    code, out, err = cli("list", what)
    assert (code, err) == (0, "")
    code, listed, _ = cli("list", what, "--json")
    rows = json.loads(listed)
    assert rows
    assert all(str(next(iter(row.values()))) in out for row in rows)
    assert "<" not in listed


def test_nothing_recorded_is_an_empty_list(cli):
    for what in ("runs", "pools"):
        assert cli("list", what, "--json") == (0, "[]\n", "")
        assert cli("list", what)[0] == 0


def test_a_past_run_is_shown_by_its_name_its_beginning_or_as_the_last(cli):
    run = json.loads(cli(*ASK, "-m", "budget-forcing(max_thinking=2)", "--json")[1])["run"]
    for name in ((), ("last",), (run,), (run[:5],)):
        code, out, err = cli("show", *name)
        assert (code, err) == (0, "")
        assert run in out
        assert "What is 2 + 2?" in out
        assert "Final Answer:" in out
    shown = json.loads(cli("show", "--json")[1])
    assert shown["id"] == run
    assert shown["traces"][0]["segments"]
    assert cli("show", "zzz")[0] == 1
    assert cli("show", "--full")[0] == 0


def test_markup_in_what_a_model_says_is_shown_as_it_is(cli):
    code, out, _ = cli("ask", "[bold]2[/bold] [/] + 2?", "--model", "scripted", "--kind", "text")
    assert (code, "I have no script" in out) == (0, True)
    assert "[bold]2[/bold] [/] + 2?" in cli("show")[1]
    assert cli("list", "runs")[0] == 0


@pytest.mark.parametrize("answer", ["[a, b]", "[/]", "[bold]x"])
@pytest.mark.parametrize("quiet", [True, False])
def test_an_answer_that_looks_like_markup_is_printed_as_it_is(capsys, answer, quiet):
    trace = Trace(prompt=(), answer=Answer(answer, answer))
    outcome_report(Outcome.of(Majority()([trace]), [trace]), quiet=quiet)
    assert capsys.readouterr().out.startswith(answer)


@pytest.mark.parametrize("finish", list(Finish))
def test_the_live_view_shows_every_kind_of_end(finish):
    live = Live(Budget(tokens=50, seconds=2), 20)
    for place in range(20):
        path, trace = (place,), Trace(prompt=(), path=(place,), finish=finish, answer=Answer("[/]", "x"), error="[/]")
        live.observe(Event(path=path, role="main", text="[bold] two", tokens=2))
        live.observe(Event(path=path, role="main", trace=trace))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(live.view())
    shown = console.export_text()
    assert "spent   40 of 50 tokens" in shown
    assert "[/] ×20" in shown
    assert "and 4 more" in shown


def test_no_colour_is_written_where_nobody_looks_or_nobody_wants_it(cli, monkeypatch):
    assert "\x1b" not in cli(*ASK)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[3" not in cli(*ASK)[1]


def test_help_names_every_command_and_version_is_one_line(cli):
    code, out, _ = cli("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert cli("--version") == (0, "thinkscale 0.1.0\n", "")
    for name in COMMANDS:
        code, _, err = cli(name, "--help")
        if name in EXTRAS and find_spec("uvicorn") is None:
            assert (code, "pip install 'thinkscale[serve]'" in err) == (2, True)
        else:
            assert code == 0


def test_extract_tells_answer_kind_evidence_and_place(cli, tmp_path):
    (tmp_path / "text.txt").write_text("Wir rechnen.\nDie Antwort ist **42**.\n", encoding="utf-8")
    code, out, err = cli("extract", "text.txt")
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == ["answer    42", "key       42", "kind      number", "evidence  marker"]
    assert "line 2, column 19" in out
    said = json.loads(cli("extract", "text.txt", "--json")[1])
    assert (said["answer"]["key"], said["kind"], said["start"], said["end"]) == ("42", "number", 31, 33)


def test_extract_reads_standard_input_and_takes_a_question(cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("It is Rome."))
    code, out, _ = cli("extract", "--question", "Which?\nA) Paris\nB) Rome", "--json")
    assert (code, json.loads(out)["answer"]["text"]) == (0, "B")


def test_extract_of_a_text_without_an_answer_fails_and_of_a_missing_file_says_so(cli, tmp_path):
    (tmp_path / "text.txt").write_text("I don't know.", encoding="utf-8")
    assert cli("extract", "text.txt")[0] == 1
    assert cli("extract", "text.txt", "--json") == (1, "null\n", "")
    code, _, err = cli("extract", "none.txt")
    assert code == 2
    assert "`none.txt` cannot be read" in err


SLOW = """
import signal
from thinkscale.engines import scripted
from thinkscale.engines.scripted import Line

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored

def slow(cue):
    if cue.number == 0:
        print("ready", flush=True)
    return Line(says="x " * 3000, pace=0.05)

scripted.Scripted.__init__.__defaults__ = (slow,)
from thinkscale.cli import main
main()
"""


def test_an_interrupt_exits_with_130_keeps_what_was_drawn_and_shows_no_traceback():
    command = [sys.executable, "-c", SLOW, "ask", "?", "--model", "scripted", "-m", "self-consistency(n=3)"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        assert asked.stdout.readline() == "ready\n"
        asked.send_signal(signal.SIGINT)
        out, err = asked.communicate(timeout=120)
    assert asked.returncode == 130
    assert "Traceback" not in err
    assert "interrupted: what was drawn is kept" in err
    assert "no answer: no attempt was done" in err
    assert out.startswith("3 calls, ")


def test_a_reader_that_goes_away_is_no_traceback():
    with process(*ASK, "--json") as asked:
        asked.stdout.close()
        err = asked.stderr.read()
        asked.wait(timeout=120)
    assert "Traceback" not in err


def test_bench_compares_methods_and_keeps_the_attempts_as_a_pool(cli, tmp_path):
    rows = [{"question": "What is 2 + 2?", "gold": "4"}, {"question": "What is 3 + 1?", "gold": "4"}]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("sums.jsonl", "--model", "tabular", "-m", "single", "-m", "self-consistency(n=8)", "--n", "8")
    code, out, err = cli("bench", *options, "--json")
    assert code == 0
    told = json.loads(out)
    assert [row["method"] for row in told["rows"]] == [
        "self-consistency(n=8, stop=fixed)",
        "single",
        "self-consistency(n=8)",
    ]
    assert all(row["questions"] == 2 for row in told["rows"])
    assert len(told["results"]["single"]) == 2
    assert "pool `sums/tabular`" in err
    code, out, _ = cli("bench", *options)
    assert code == 0
    assert "− self-consistency(n=8, stop=fixed)" in out
    assert [(p["method"], p["against"]) for p in told["pairs"]] == [
        ("single", "self-consistency(n=8, stop=fixed)"),
        ("self-consistency(n=8)", "self-consistency(n=8, stop=fixed)"),
        ("self-consistency(n=8)", "single"),
    ]
    code, out, _ = cli("bench", *options, "--against", "single")
    assert (code, "− single" in out, "needed" in out, "cut off" in out) == (0, True, True, True)
    assert json.loads(cli("list", "pools", "--json")[1]) == [{"pool": "sums/tabular", "questions": "2"}]
    code, out, _ = cli("select", "sums/tabular", "--n", "1,8", "--rules", "majority,ahead-by-2", "--resamples", "50")
    assert code == 0
    assert "ahead-by-k(k=2)" in out
    assert "2 questions" in out


def test_import_and_select_work_on_a_recorded_file(cli):
    recorded = os.path.join(os.path.dirname(__file__), "..", "data", "recorded", "smollm2_toy_6x8.jsonl.gz")
    code, out, _ = cli("import", recorded, "--name", "toy", "--json")
    assert code == 0
    [imported] = json.loads(out)
    name = imported["pool"]
    code, out, _ = cli("select", name, "--n", "1,4,8", "--resamples", "20", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["n"] == [1, 4, 8]
    assert {row["rule"] for row in told["stopping"]} >= {"fixed", "ahead-by-k", "esc"}
    assert len(told["selection"]) > 10
    rules = ("select", name, "--n", "1,4,8", "--rules", "fixed,early-exit(kind=nobody)")
    code, out, _ = cli(*rules, "--json")
    assert [bool(row["note"]) for row in json.loads(out)["stopping"]] == [False, True]
    code, out, _ = cli(*rules)
    assert "no answer has a `nobody` score, so it takes all attempts" in out
    code, out, _ = cli("select", name, "--rules", "best,ahead-by-2", "--n", "4", "--against", "borda", "--places", "2")
    assert (code, "− borda" in out, "− all attempts" in out, "2 at once" in out) == (0, True, True, True)
    code, out, _ = cli("select", name, "--rules", "fixed,ahead-by-2", "--n", "8", "--against", "fixed", "--json")
    assert [row["baseline"] for row in json.loads(out)["stopping"]] == [json.loads(out)["stopping"][0]["accuracy"]] * 2
    assert json.loads(out)["stopping"][0]["against"]["difference"] == 0
    code, _, err = cli("select", name, "--rules", "best", "--against", "median")
    assert (code, "elects no answer" in err) == (2, True)
    code, _, err = cli("select", name, "--n", "none")
    assert (code, "no list of numbers" in err) == (2, True)
    code, _, err = cli("select", "nothing")
    assert code == 1
    assert "no pool" in err


def test_a_file_without_a_problem_or_a_recording_is_an_error_and_no_traceback(cli, tmp_path):
    (tmp_path / "nothing.jsonl").write_text("")
    for command in (("bench", "nothing.jsonl", "--model", "tabular"), ("import", "nothing.jsonl")):
        code, out, err = cli(*command)
        assert (code, out) == (1, "")
        assert "nothing.jsonl" in err


def test_bench_of_one_problem_or_without_any_budget_has_its_table(cli, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps({"question": "What is 2 + 2?", "gold": "4"}))
    options = ("one.jsonl", "--model", "tabular", "-m", "single", "--n", "2")
    for more in ((), ("--budget", "tokens=0")):
        code, out, _ = cli("bench", *options, *more)
        assert (code, "nan" in out) == (0, False)


def test_a_rule_that_has_to_know_how_many_attempts_there_are_is_told(cli):
    recorded = os.path.join(os.path.dirname(__file__), "..", "data", "recorded", "smollm2_toy_6x8.jsonl.gz")
    cli("import", recorded, "--name", "toy")
    for rules in ("all", "fixed, decided-majority"):
        code, out, _ = cli("select", "toy", "--n", "8", "--rules", rules, "--resamples", "5", "--json")
        assert code == 0
        taken = {row["rule"]: row["samples"] for row in json.loads(out)["stopping"]}
        assert 4 <= taken["decided-majority(n=8)"] < taken["fixed"] == 8


def written(folder, *samples):
    row = {"question_id": "q", "question": "1 + 1?", "gold": "2", "samples": samples}
    (folder / "small.jsonl").write_text(json.dumps(row))
    return "small.jsonl"


def test_select_shows_as_many_attempts_as_a_small_pool_has_and_nothing_private(cli, tmp_path):
    samples = [{"answer": answer, "reward": 0.5 + len(answer)} for answer in ("2", "3", "2")]
    cli("import", written(tmp_path, *samples))
    code, out, _ = cli("select", "small", "--resamples", "5", "--json")
    told = json.loads(out)
    assert (code, told["n"]) == (0, [1, 2, 3])
    rules = [row["rule"] for row in told["stopping"]]
    assert "soft-adaptive" in rules
    assert all(rule.partition("(")[0] in names("stop-rule") for rule in rules)


def test_a_rule_that_reads_a_score_which_a_pool_lacks_is_told_the_scores_that_it_has(cli, tmp_path):
    samples = [{"answer": "2", "reward": 0.5, "mean_logprob": -0.1}, {"answer": "3", "reward": 0.1}]
    cli("import", written(tmp_path, *samples))
    code, out, _ = cli("select", "small", "--rules", "best(kind=length),early-exit(kind=length),esc", "--json")
    told = json.loads(out)
    assert code == 0
    notes = [row["note"] for row in (*told["selection"], *told["stopping"])]
    assert [note.partition("; ")[2] for note in notes] == ["its scores are `mean-logprob`, `outcome-reward`"] * 2 + [""]
    cli("import", written(tmp_path, {"answer": "2"}, {"answer": "3"}))
    _, out, _ = cli("select", "small", "--rules", "best(kind=length)")
    assert "it has no scores at all" in out
