"""The embedded engine ends with the interpreter, even if nobody closes it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from thinkscale.engines.weights import default_weights

pytestmark = pytest.mark.model


def test_a_forgotten_engine_does_not_hang_the_interpreter(monkeypatch):
    home = os.environ.get("THINKSCALE_HOME", str(Path(tempfile.gettempdir()) / "thinkscale-tests"))
    monkeypatch.setenv("THINKSCALE_HOME", home)
    weights = default_weights()
    code = (
        "import asyncio\n"
        "from thinkscale.engines.llamacpp import LlamaCpp\n"
        "from thinkscale.engines.protocol import Request\n"
        "from thinkscale.types import Message, Sampling\n"
        f"engine = LlamaCpp(model={str(weights)!r}, context=512)\n"
        "async def main():\n"
        "    sampling = Sampling(max_tokens=400, min_tokens=400)\n"
        "    async for chunk in engine.stream(Request(messages=(Message('user', 'Hi'),), sampling=sampling)):\n"
        "        return\n"
        "asyncio.run(main())\n"
        "print('bye')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
