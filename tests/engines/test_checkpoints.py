"""Guarantees about finding a checkpoint: nothing of it needs the libraries that would run it."""

import json
import subprocess
import sys

import pytest

from thinkscale.engines.checkpoints import find_checkpoint
from thinkscale.engines.transformers import Transformers
from thinkscale.engines.transformers_reward import TransformersReward
from thinkscale.errors import ModelError

CONFIG = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 128}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "small-model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": "<think>"}))
    (made / "model.safetensors").write_bytes(b"0" * 100)
    return made


def test_a_folder_says_what_it_is(folder):
    found = find_checkpoint(folder)
    assert (found.name, found.context, found.architecture) == ("small-model", 128, "LlamaForCausalLM")
    assert find_checkpoint(str(folder)) == found
    said = Transformers(model=folder, context=64).capabilities
    assert (said.context, said.name) == (64, "small-model")
    assert said.think is not None
    assert said.model.endswith("-float32")
    (folder / "chat_template.jinja").write_text("another")
    assert find_checkpoint(folder).template == "another"


def test_other_weights_have_another_identity(folder):
    first = find_checkpoint(folder).identity
    (folder / "model.safetensors").write_bytes(b"0" * 99 + b"1")
    assert find_checkpoint(folder).identity != first


def test_what_is_no_model_is_named(tmp_path, folder):
    for source, match in (
        (tmp_path / "nowhere", "no model"),
        (tmp_path, "config.json"),
        (str(tmp_path / "no.gguf"), "no model"),
    ):
        with pytest.raises(ModelError, match=match):
            find_checkpoint(source)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        find_checkpoint(folder)


@pytest.mark.parametrize("engine", [Transformers, TransformersReward])
async def test_without_the_extra_the_way_to_install_it_is_told(engine, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in [m for m in sys.modules if m.startswith("thinkscale.engines.transformers")]:
        if module.endswith((".runtime", ".reader")):
            monkeypatch.delitem(sys.modules, module)
    made = engine(model=folder)
    with pytest.raises(ModelError, match=r'pip install "thinkscale\[hf\]"'):
        await made.open()
    await made.aclose()


def test_a_hub_that_cannot_be_asked_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"thinkscale\[hf\]"):
        find_checkpoint("owner/name")


def test_the_engines_are_imported_without_their_libraries():
    code = (
        "import sys, thinkscale.engines.transformers, thinkscale.engines.transformers_reward;"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
