"""`thinkscale keys`: a key is shown once, and what it may do is what was said."""

import json
import sys

import pytest

from thinkscale.budget import Budget
from thinkscale.cli import main
from thinkscale.serve.keys import Keyring, Limits
from thinkscale.types import Usage


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run the command line in this process; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["thinkscale", "keys", *arguments, "--store", "runs.db"])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def ring(tmp_path, monkeypatch):
    # No day ends while a test runs.
    monkeypatch.setattr(Keyring.__init__, "__defaults__", (lambda: 1e9,))
    opened = Keyring(tmp_path / "runs.db")
    yield opened
    opened.close()


def test_a_new_key_is_printed_alone_works_and_is_never_shown_again(cli, ring):
    code, out, err = cli("add", "ada", "--requests-per-minute", "60", "--tokens-per-day", "1_000_000")
    token = out.strip()
    assert (code, out.count("\n")) == (0, 1)
    assert "only time" in err
    key = ring.check(f"Bearer {token}")
    assert (key.name, key.limits) == ("ada", Limits(requests_per_minute=60, tokens_per_day=1_000_000))
    for listing in (cli("list"), cli("list", "--json"), cli()):
        assert listing[0] == 0
        assert key.id in listing[1]
        assert token not in listing[1] + listing[2]


def test_the_list_says_what_was_used_today(cli, ring):
    made = json.loads(cli("add", "ada", "--usd-per-day", "2.5", "--budget", "tokens=500", "--json")[1])
    key = ring.check(f"Bearer {made['key']}")
    ring.charge(ring.admit(key), Usage(output_tokens=12, usd=0.25))
    [row] = json.loads(cli("list", "--json")[1])
    assert row["today"] == {"requests": 1, "tokens": 12, "usd": 0.25}
    assert row["limits"] == {"usd_per_day": 2.5, "budget": {"tokens": 500}}
    line = cli("list")[1].splitlines()[1]
    assert line.split()[:2] == [key.id, "ada"]
    assert line.split()[3:] == ["1", "12", "0.2500", "usd_per_day=2.5", "budget(tokens=500)"]


def test_a_limit_is_changed_alone_and_lifted_by_none(cli, ring):
    key, _ = ring.add("ada", Limits(concurrent=2, tokens_per_day=9, budget=Budget(tokens=5)))
    assert cli("limit", key.id, "--tokens-per-day", "10", "--budget", "none")[0] == 0
    assert [k.limits for k in ring.listed()] == [Limits(concurrent=2, tokens_per_day=10)]
    cli("limit", key.id, "--concurrent", "none")
    assert [k.limits for k in ring.listed()] == [Limits(tokens_per_day=10)]


def test_a_revoked_key_stays_in_the_list(cli, ring):
    key, _ = ring.add("ada")
    assert "revoked" in cli("revoke", key.id)[1]
    [row] = json.loads(cli("list", "--json")[1])
    assert row["revoked"] > 0


def test_an_empty_store_says_how_to_make_a_key(cli):
    assert "thinkscale keys add" in cli()[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ad", "ada"), "add"),
        (("add",), "needs a name"),
        (("list", "ada"), "takes no `ada`"),
        (("revoke", "nobody"), "`nobody`"),
        (("limit", "nobody", "--concurrent", "1"), "`nobody`"),
        (("add", "ada", "--concurrent", "many"), "--concurrent none"),
        (("add", "ada", "--concurrent", "-1"), "0 or more"),
        (("add", "ada", "--budget", "stars=3"), "unknown budget"),
        (("revoke", "ada", "--concurrent", "1"), "sets no limits"),
    ],
    ids=str,
)
def test_a_command_that_makes_no_sense_says_what_to_do(cli, arguments, said):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_store_that_keeps_nothing_keeps_no_keys(monkeypatch):
    monkeypatch.setenv("THINKSCALE_STORE", "none")
    monkeypatch.setattr(sys, "argv", ["thinkscale", "keys"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
