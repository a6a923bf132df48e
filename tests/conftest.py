"""Every test runs against its own data folder and sees no settings of whoever runs it."""

import os

import pytest
from hypothesis import settings

from thinkscale.settings import Settings

# How long an example takes says something of the machine and nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED_HOME = os.environ.get("THINKSCALE_TEST_HOME")
"""Where the weights of tests marked `model` are kept between runs; the user's data folder when absent."""


@pytest.fixture(autouse=True)
def _own_world(request, tmp_path, monkeypatch):
    for name in Settings.__dataclass_fields__:
        monkeypatch.delenv(f"THINKSCALE_{name.upper()}", raising=False)
    if not request.node.get_closest_marker("model"):
        monkeypatch.setenv("THINKSCALE_HOME", str(tmp_path / "home"))
    elif SHARED_HOME:
        monkeypatch.setenv("THINKSCALE_HOME", SHARED_HOME)
