"""Models by hub repository, against a small hub of our own that speaks the real client's protocol."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

pytest.importorskip("huggingface_hub")

BODY = b"GGUF" + bytes(60)
TREE = [{"type": "file", "path": name, "size": len(BODY), "oid": "0" * 40} for name in ("a-Q8_0.gguf", "a-Q4_K_M.gguf")]


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, `org/model`, with two quantisations."""

    def do_GET(self):
        self.reply(with_body=True)

    def do_HEAD(self):
        self.reply(with_body=False)

    def reply(self, *, with_body):
        path = self.path.partition("?")[0]
        body, code, headers = b"", 404, {"X-Error-Code": "RepoNotFound"}
        if path == "/api/models/org/model/tree/main":
            body, code, headers = json.dumps(TREE).encode(), 200, {"Content-Type": "application/json"}
        elif path == "/api/models/org/empty/tree/main":
            body, code, headers = b"[]", 200, {"Content-Type": "application/json"}
        elif path == "/org/model/resolve/main/a-Q4_K_M.gguf":
            body, code, headers = BODY, 200, {"ETag": '"etag"', "X-Repo-Commit": "1" * 40}
        elif path.startswith("/org/model/"):
            headers = {"X-Error-Code": "EntryNotFound"}
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def resolved(name, tmp_path, **environment):
    """What `resolve` returns or says in a process of its own: the client reads its endpoint when it is imported."""
    code = (
        "import sys\nfrom thinkscale.engines.weights import resolve\nfrom thinkscale.errors import ModelError\n"
        "try: print(resolve(sys.argv[1]))\nexcept ModelError as error: print('error:', error)\n"
    )
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    env.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in environment else None
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, env=env, check=True)
    return done.stdout.strip()


def test_a_repository_gives_its_middle_quantisation(hub, tmp_path):
    found = resolved("org/model", tmp_path, HF_ENDPOINT=hub)
    assert found.endswith("a-Q4_K_M.gguf")
    with open(found, "rb") as file:
        assert file.read() == BODY


def test_a_file_that_is_not_there_is_named(hub, tmp_path):
    assert "has no file `b.gguf`" in resolved("org/model:b.gguf", tmp_path, HF_ENDPOINT=hub)


def test_a_repository_that_is_not_there_is_named(hub, tmp_path):
    assert "the hub has no `org/absent`" in resolved("org/absent", tmp_path, HF_ENDPOINT=hub)


def test_a_repository_without_models_says_so(hub, tmp_path):
    assert "has no single-file GGUF" in resolved("org/empty", tmp_path, HF_ENDPOINT=hub)


def test_an_unreachable_hub_says_what_to_do(tmp_path):
    said = resolved("org/model:a.gguf", tmp_path, HF_HUB_OFFLINE="1")
    assert "cannot reach the hub for `org/model`" in said
    assert "--model path.gguf" in said
