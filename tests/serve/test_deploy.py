"""The files in docs/deploy: settings that load, an image that is not root, a unit that is closed up."""

import configparser
import re
from pathlib import Path

from thinkscale.budget import Budget
from thinkscale.engines.tabular import Tabular
from thinkscale.registry import parse, spec_of
from thinkscale.serve.metrics import Metrics
from thinkscale.serve.profiles import Menu
from thinkscale.settings import load

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


def test_the_settings_load_and_every_profile_can_be_served():
    settings = load(folder=DEPLOY)
    assert settings.base_url.startswith("http://127.0.0.1")
    menu = Menu({settings.model: Tabular()}, settings.profiles)
    assert {entry["id"] for entry in menu.models()} == {settings.model, *settings.profiles}
    for profile in settings.profiles.values():
        assert spec_of(parse(profile.method, "method"))
        assert Budget.parse(profile.budget).seconds, "a profile without a deadline outlives its proxy"


def test_the_image_is_not_root_and_says_how_it_is():
    said = (DEPLOY / "Containerfile").read_text()
    assert re.findall(r"^FROM (\S+)", said, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    [user] = re.findall(r"^USER (\S+)", said, re.MULTILINE)
    assert user.split(":")[0] not in ("0", "root")
    assert said.index("\nUSER ") < said.index("\nENTRYPOINT ")
    assert "\nHEALTHCHECK " in said
    assert "/health" in said


def test_the_unit_runs_as_nobody_special_and_sees_little():
    unit = configparser.RawConfigParser(strict=False, delimiters="=")
    unit.optionxform = str
    unit.read(DEPLOY / "thinkscale.service")
    service = dict(unit["Service"])
    assert service["User"] == "thinkscale"
    assert service["CapabilityBoundingSet"] == ""
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["ProtectHome"]) == ("yes", "strict", "yes")
    assert service["KillSignal"] == "SIGTERM"


def test_alerts_are_raised_by_metrics_that_there_are():
    text, _ = Metrics().render()
    names = set(re.findall(r"^# TYPE (\S+) ", text.decode(), re.MULTILINE))
    asked = set(re.findall(r"\bthinkscale_\w+", (DEPLOY / "alerts.yml").read_text()))
    assert len(asked) > 4
    assert {name.removesuffix("_bucket") for name in asked} <= names
    assert "rule_files:\n  - alerts.yml" in (DEPLOY / "prometheus.yml").read_text()


def test_every_metric_is_explained():
    page = (DEPLOY / "README.md").read_text()
    text, _ = Metrics().render()
    names = re.findall(r"^# TYPE thinkscale_(\w+) ", text.decode(), re.MULTILINE)
    assert len(names) > 15
    for name in names:
        assert f"`{name}`" in page or name.endswith("_created"), f"`{name}` is not explained"
