"""Every example of the guide runs, every command in it does what it says, and everything in it passes its suite."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from thinkscale.cli import main
from thinkscale.registry import MEMBERS
from thinkscale.testing.__main__ import command

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "write-your-own.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"[Ii]n\s`(\w+\.(?:py|txt))`:\n\n```\w*\n(.*?)```", GUIDE, re.DOTALL))
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [
    line for kind, block in BLOCKS if not kind for line in block.splitlines() if re.match(r"thinkscale |python ", line)
]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")


def test_every_example_is_found():
    python = [block for kind, block in BLOCKS if kind == "python"]
    assert len([name for name in FILES if name.endswith(".py")]) == len(python) - 1
    checked = {re.search(r"\./(\w+\.py)", c)[1] for c in COMMANDS if "thinkscale.testing" in c}
    assert checked == {name for name in FILES if name.endswith(".py")}


def test_every_kind_of_component_has_a_signature():
    table = [row for row in GUIDE.splitlines() if row.startswith("| ")]
    for kind, members in MEMBERS.items():
        [row] = [row for row in table if row.startswith(f"| {kind.replace('-', ' ')} ")]
        assert all(f"`{member}" in row or f"def {member}(" in row for member in members)


@pytest.mark.parametrize("line", [c for c in COMMANDS if "thinkscale.testing" in c])
def test_every_component_passes_its_suite(line, capsys):
    command(shlex.split(line)[-1])
    assert "keeps all" in capsys.readouterr().out


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("thinkscale ")])
def test_every_command_runs(line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*shlex.split(line), "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code, capsys.readouterr().err


def test_the_script_runs(tmp_path, monkeypatch):
    [script] = [block for kind, block in BLOCKS if kind == "python" and "check_method" in block]
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(script, {})
    del sys.modules["doubt"]
