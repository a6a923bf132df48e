import ast
import subprocess
import sys

import pytest

import thinkscale

HEAVY = ("numpy", "pydantic", "rich", "typer", "sqlite3", "asyncio", "stamina", "jinja2", "xllamacpp", "math_verify")


def imported(code, *names):
    """Which of the modules are loaded after some code has run in a fresh interpreter."""
    show = f"import sys; print(*(m for m in {names!r} if m in sys.modules), file=sys.stderr)"
    script = f"{code}\n{show}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stderr.split())


def test_importing_the_package_imports_nothing_heavy():
    assert imported("import thinkscale", *HEAVY) == set()


def test_the_nouns_and_the_budget_need_nothing_but_the_standard_library():
    third_party = tuple(m for m in HEAVY if m not in ("sqlite3", "asyncio"))
    code = "import thinkscale as ts; ts.Budget, ts.Problem, ts.Trace, ts.Outcome, ts.ThinkscaleError"
    assert imported(code, *third_party) == set()


def test_a_fake_engine_needs_no_model_library():
    code = "import thinkscale as ts; ts.ask('?', model=ts.Tabular(), settings=ts.Settings(store='none'))"
    assert imported(code, "xllamacpp", "jinja2", "math_verify", "typer") == set()


def test_the_help_of_the_command_line_imports_no_command_and_no_engine():
    code = (
        "import sys; sys.argv = ['thinkscale', '--help']\n"
        "from thinkscale.cli import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    absent = (
        "numpy",
        "stamina",
        "jinja2",
        "pydantic",
        "sqlite3",
        "xllamacpp",
        "thinkscale.session",
        "thinkscale.cli.ask",
    )
    assert imported(code, *absent) == set()


def test_the_public_names_are_sorted_and_all_there():
    assert thinkscale.__all__ == sorted(thinkscale.__all__)
    assert set(thinkscale.__all__) == set(thinkscale._HOMES)
    for name in thinkscale.__all__:
        assert getattr(thinkscale, name).__name__ == name
        assert getattr(thinkscale, name).__module__.startswith(f"thinkscale.{thinkscale._HOMES[name]}")
    assert dir(thinkscale) == thinkscale.__all__


def test_what_type_checkers_see_is_what_is_imported():
    with open(thinkscale.__file__, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    [block] = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {a.asname: n.module for n in block.body for a in n.names if a.asname == a.name}
    assert seen == {name: f"thinkscale.{home}" for name, home in thinkscale._HOMES.items()}


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute `Nobody`"):
        thinkscale.Nobody  # noqa: B018
