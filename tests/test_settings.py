from pathlib import Path

import pytest

from thinkscale.errors import SettingsError
from thinkscale.settings import Profile, Settings, home, load


def test_nothing_said_gives_the_defaults(tmp_path):
    assert load(folder=tmp_path) == Settings()


def test_flags_beat_the_environment_and_the_environment_beats_the_file(tmp_path, monkeypatch):
    (tmp_path / "thinkscale.toml").write_text('method = "single"\nseed = 1\nmax_tokens = 10\n')
    monkeypatch.setenv("THINKSCALE_SEED", "2")
    monkeypatch.setenv("THINKSCALE_MAX_TOKENS", "20")
    made = load({"max_tokens": 30, "model": None}, tmp_path)
    assert (made.method, made.seed, made.max_tokens, made.model) == ("single", 2, 30, "embedded")


def test_a_project_file_is_read_where_there_is_no_file_of_our_own(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.thinkscale]\nmethod = "single"\n')
    assert load(folder=tmp_path).method == "single"
    (tmp_path / "thinkscale.toml").write_text('method = "best-of-n"\n')
    assert load(folder=tmp_path).method == "best-of-n"


def test_a_project_file_of_somebody_else_is_no_concern_of_ours(tmp_path):
    (tmp_path / "pyproject.toml").write_text("not toml [")
    assert load(folder=tmp_path) == Settings()
    (tmp_path / "pyproject.toml").write_text('tool = "hammer"')
    assert load(folder=tmp_path) == Settings()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"method = ", "cannot be read"),
        (b"method = '\xff\xfe'", "cannot be read"),
        (b"metod = 'single'", "did you mean `method`"),
        (b"seed = 'many'", "`seed` to `many`"),
        (b"max_tokens = 0", "`max_tokens` to `0`"),
        (b"concurrency = -1", "`concurrency` to `-1`"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_sentence(tmp_path, content, says):
    (tmp_path / "thinkscale.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=says) as caught:
        load(folder=tmp_path)
    assert "thinkscale.toml" in str(caught.value)


def test_a_bad_variable_is_blamed_on_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSCALE_CONCURRENCY", "lots")
    with pytest.raises(SettingsError, match="the environment sets `concurrency` to `lots`"):
        load(folder=tmp_path)


def test_a_flag_that_is_no_setting_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="the flags sets `tone`"):
        load({"tone": "kind"}, tmp_path)


def test_the_store_is_in_the_data_folder_unless_named_or_refused(tmp_path):
    assert Settings().store_path == home() / "runs.db"
    assert Settings(store="x.db").store_path == Path("x.db")
    assert Settings(store="none").store_path is None


def test_the_data_folder_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSCALE_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"
    monkeypatch.setenv("THINKSCALE_HOME", "")
    assert home().name == "thinkscale"


def test_profiles_are_tables_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "thinkscale.toml").write_text(
        '[profiles.fast]\nmethod = "self-consistency(n=4)"\nbudget = "tokens=2000"\n[profiles.plain]\n'
    )
    monkeypatch.setenv("THINKSCALE_PROFILES", "none")
    fast = Profile(method="self-consistency(n=4)", budget="tokens=2000")
    assert load(folder=tmp_path).profiles == {"fast": fast, "plain": Profile()}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[profiles.fast]\nmetod = 'single'", "`profiles.fast.metod`, which is no setting: did you mean `method`"),
        ("[profiles.fast]\nmax_tokens = 0", "`profiles.fast.max_tokens` to `0`"),
        ("profiles = 3", "`profiles` to `3`"),
        ("[profiles]\nfast = 3", "`profiles.fast` to `3`"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path, content, says):
    (tmp_path / "thinkscale.toml").write_text(content)
    with pytest.raises(SettingsError, match=says):
        load(folder=tmp_path)
