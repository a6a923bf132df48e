"""Every test runs against its own data folder and sees no settings of whoever runs it."""

import os

import pytest
from hypothesis import HealthCheck, settings

from thinkscale.settings import Settings

# How long an example takes says something of the machine and nothing of the code. The examples are the same in every
# run; `--hypothesis-profile exploring` looks for others.
settings.register_profile("exploring", deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("exploring"), derandomize=True, database=None)
settings.load_profile("same")

SHARED_HOME = os.environ.get("THINKSCALE_TEST_HOME")
"""Where the weights of tests marked `model` are kept between runs; the user's data folder when absent."""


@pytest.fixture(autouse=True)
def _own_world(request, tmp_path, monkeypatch):
    for name in Settings.__dataclass_fields__:
        monkeypatch.delenv(f"THINKSCALE_{name.upper()}", raising=False)
    if not request.node.get_closest_marker("model"):
        monkeypatch.setenv("THINKSCALE_HOME", str(tmp_path / "home"))
    else:
        monkeypatch.setenv("THINKSCALE_STORE", str(tmp_path / "runs.sqlite"))
        if SHARED_HOME:
            monkeypatch.setenv("THINKSCALE_HOME", SHARED_HOME)
