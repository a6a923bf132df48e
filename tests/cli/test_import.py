"""`thinkscale import` says what it read and how far verdicts agree, and an interrupt leaves every pool as it was."""

import json
import os
import signal
import subprocess
import sys

import pytest

from thinkscale.cli import main
from thinkscale.store import Store


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run the command line in this process; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["thinkscale", *arguments, "--store", "runs.db"])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


def written(folder, *rows):
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "pool.jsonl"


JUDGED = {
    "question_id": "q",
    "gold": "2",
    "samples": [{"answer": "2", "correct": False}, {"answer": "3", "correct": False}],
}


def test_import_prints_how_often_the_verdicts_differ(cli, tmp_path):
    path = written(tmp_path, JUDGED)
    code, out, _ = cli("import", path)
    assert code == 0
    assert out.splitlines() == [
        "pool",
        "  1 questions (1 math), 2 attempts, 2 with an answer",
        "  scores: none",
        "  the source's verdict and ours differ on 1 of 2 attempts (50.0 %): 0 right by the source's alone, 1 by ours "
        "alone; first on q",
    ]
    [told] = json.loads(cli("import", path, "--json")[1])
    assert (told["pool"], told["compared"], told["differ"], told["ours_alone"]) == ("pool", 2, 1, 1)


def test_a_kind_and_what_tells_pools_apart_can_be_said(cli, tmp_path):
    rows = [{**JUDGED, "t": t} for t in (0.5, 1)]
    path = written(tmp_path, *rows)
    code, _, err = cli("import", path)
    assert (code, "`--by t`" in err) == (1, True)
    code, out, _ = cli("import", path, "--by", "t", "--kind", "text", "--json")
    assert [(told["pool"], told["kinds"]) for told in json.loads(out)] == [
        ("pool/t=0.5", {"text": 1}),
        ("pool/t=1", {"text": 1}),
    ]
    code, _, err = cli("import", path, "--kind", "colour")
    assert (code, "'colour'" in err) == (2, True)


def test_counts_of_right_attempts_say_what_they_cannot_tell(cli, tmp_path):
    code, out, _ = cli("import", written(tmp_path, {"question_id": "q", "n": 4, "correct": 1}))
    assert code == 0
    assert "only verdicts are known: all wrong attempts at a question vote as one answer" in out


def test_a_line_that_cannot_be_read_is_one_sentence_on_stderr(cli, tmp_path):
    code, out, err = cli("import", written(tmp_path, JUDGED, {"question_id": "r", "samples": [{"reward": "x"}]}))
    assert (code, out) == (1, "")
    assert 'error: line 2 of the pool `pool.jsonl`: `samples[0].reward` is `"x"`, and a number is expected' in err
    assert "Traceback" not in err


def test_an_interrupt_leaves_every_pool_as_it_was(tmp_path):
    many = [{**JUDGED, "question_id": i, "samples": JUDGED["samples"] * 10} for i in range(4_000)]
    command = [sys.executable, "-c", "from thinkscale.cli import main; main()", "import"]
    options = ["--store", "runs.db", "--name", "p"]
    written(tmp_path, *many[:2])
    subprocess.run([*command, "pool.jsonl", *options], cwd=tmp_path, check=True, capture_output=True)
    written(tmp_path, *many)
    # A shell's background jobs start with the signal ignored.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command[2] = heard + command[2]
    process = subprocess.Popen(
        [*command, "pool.jsonl", *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    store = Store(tmp_path / "runs.db")
    before = store.named_pool("p")
    while len(store.runs(limit=9)) < 6:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted: no pool was made or changed" in err
    assert "Traceback" not in err
    assert store.named_pool("p") == before
    assert [len(store.pool(entry.run)) for entry in before] == [20, 20]
    store.close()
