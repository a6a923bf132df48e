"""Real processes that are really interrupted: the best so far is printed, and the same command goes on from it."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

ENGINE = '''
import os
from thinkscale.engines.scripted import Line, Scripted


def speak(cue):
    with open("asked", "a") as asked:
        asked.write(f"{cue.seed}\\n")
    with open("prefixes", "a") as prefixes:
        prefixes.write(f"{cue.prefix[:15]}|{cue.sampling.max_tokens}\\n")
    number = sum(1 for _ in open("asked"))
    if os.path.exists("stuck") and number > int(open("stuck").read()):
        return Line(says="The answer is 9 " + "x " * 400, pace=0.02)
    return Line(says="So the answer is 7200.")


class Paced(Scripted):
    """Quick at first, then very slow, as long as a file says so."""

    def __init__(self):
        super().__init__(speak)
'''
RUN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
from thinkscale.cli import main
main()
"""
VOTE = ("-m", "self-consistency(n=4, stop=fixed)")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "paced.py").write_text(ENGINE)
    return tmp_path


def begun(folder, *arguments):
    command = [sys.executable, "-c", RUN, *arguments]
    environment = os.environ | {"THINKSCALE_STORE": str(folder / "runs.db"), "COLUMNS": "200"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, text=True, stdout=pipe, stderr=pipe, env=environment)


def ended(folder, *arguments):
    with begun(folder, *arguments) as process:
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def asked(question="?", *options):
    return ("ask", question, "--model", "./paced.py:Paced", *VOTE, *options)


def interrupted(folder, arguments, quick, draws, number):
    """Run a command until so many draws were asked for, of which some were quick, and send it a signal."""
    (folder / "stuck").write_text(str(quick))
    with begun(folder, *arguments) as process:
        log = folder / "asked"
        while process.poll() is None and not (log.exists() and len(log.read_text().split()) >= draws):
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    (folder / "stuck").unlink()
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_best_so_far_is_printed_and_the_same_command_goes_on_from_it(folder, number, code):
    returned, out, err = interrupted(folder, asked(), 2, 4, number)
    assert returned == code
    assert out.startswith("7200")
    assert re.search(r"4 calls, \d+ tokens generated", out)
    assert "interrupted: what was drawn is kept" in err
    assert "interrupted, best answer so far: 7200" in ended(folder, "show")[1]
    paid = (folder / "asked").read_text().split()
    returned, out, err = ended(folder, *asked("?", "--json"))
    again = (folder / "asked").read_text().split()[len(paid) :]
    assert (returned, err, json.loads(out)["votes"][0]["count"]) == (0, "", 4)
    assert sorted(again) == sorted(paid[2:]), "what was finished is not drawn again, what was not is"
    assert "done, answer: 7200" in ended(folder, "show")[1]


def test_partial_attempts_are_continued_where_that_is_asked_for(folder):
    interrupted(folder, asked(), 2, 4, signal.SIGINT)
    before = len((folder / "prefixes").read_text().splitlines())
    returned, out, err = ended(folder, *asked("?", "--continue-partials", "--explain"))
    gone_on = (folder / "prefixes").read_text().splitlines()[before:]
    assert [line.startswith("The") for line in gone_on] == [True, True]
    assert all(0 < int(line.partition("|")[2]) < 512 for line in gone_on)
    assert "continued from there: they are not what the seed alone gives" in err
    assert (returned, out.startswith("7200"), "2 of them found in the store" in out) == (0, True, True)
    _, again, _ = ended(folder, *asked("?", "--explain"))
    assert len((folder / "prefixes").read_text().splitlines()) == before + 2, "what was continued is finished"
    assert re.findall(r"paid \d+ in 4 calls", again) == re.findall(r"paid \d+ in 4 calls", out)


def test_an_interrupt_before_any_attempt_is_done_says_so(folder):
    returned, out, err = interrupted(folder, asked(), 0, 4, signal.SIGINT)
    assert returned == 130
    assert "no answer: no attempt was done" in err
    assert "9" not in out.split(" calls")[0]
    assert "best answer so far: None" in ended(folder, "show")[1]


def test_an_interrupted_run_is_one_object_of_json(folder):
    returned, out, _ = interrupted(folder, asked("?", "--json"), 1, 4, signal.SIGINT)
    told = json.loads(out)
    assert (returned, told["answer"], told["stopped"]) == (130, "7200", "cancelled")
    assert told["paid"] == told["usage"]["output_tokens"] > 0


def test_a_deadline_prints_the_best_so_far(folder):
    (folder / "stuck").write_text("2")
    returned, out, _ = ended(folder, *asked("?", "-b", "seconds=1"))
    assert (returned, out.startswith("7200"), "the budget ran out" in out) == (0, True, True)


def test_a_budget_that_is_over_before_anything_was_said_is_an_error(folder):
    for budget in ("tokens=0", "seconds=0", "calls=0"):
        returned, out, err = ended(folder, *asked("?", "-b", budget))
        assert returned == 1
        assert "no answer: the budget was over before there was anything to show" in err
        assert "Final Answer" not in out


def test_bench_prints_a_partial_table_when_it_is_interrupted(folder):
    rows = [{"question": f"What is {i}?", "gold": "7200"} for i in range(3)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("bench", "sums.jsonl", "--model", "./paced.py:Paced", "-m", "single", "--n", "2")
    returned, out, err = interrupted(folder, options, 4, 6, signal.SIGINT)
    assert returned == 130
    assert "the 2 of 3 problems that all methods so far have done" in " ".join(out.split())
    assert "interrupted: what was drawn is kept" in err


def test_an_explanation_says_who_voted_when_and_what_was_needed_paid_and_cut(folder):
    (folder / "stuck").write_text("2")
    _, out, _ = ended(folder, *asked("?", "-b", "seconds=1", "--explain"))
    told = out.partition("why it stopped: the budget ran out")[2]
    assert re.search(r"needed \d+ tokens, paid \d+ in 4 calls", told)
    assert re.findall(r"(?m)^ *(\d) +(\d) +\d+ +(\S+) +(.*?) *$", told) == [
        ("1", "1", "7200", "voted"),
        ("2", "2", "7200", "voted"),
        ("3", "3", "–", "no answer, cut by the budget"),
        ("4", "4", "–", "no answer, cut by the budget"),
    ]
    assert "certificate: none" in told
    (folder / "stuck").unlink()
    told = json.loads(ended(folder, *asked("!", "--explain", "--json"))[1])
    assert [a["why"] for a in told["attempts"]] == ["voted"] * 4
    assert told["needed"] == told["paid"] == sum(a["tokens"] for a in told["attempts"])
    told = ended(folder, *asked("!", "--explain"))[1]
    assert "in 4 calls, 4 of them found in the store" in told
    assert "7200 is this model's likeliest answer after 4" in told
