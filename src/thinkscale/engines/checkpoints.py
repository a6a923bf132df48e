"""Where a model that the `transformers` library runs comes from: a folder, a GGUF file or a repository of a hub.

What a checkpoint says of itself is read from its JSON files or its GGUF header; `transformers` is imported only to
load it. It knows nothing of requests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from thinkscale.engines.gguf import read_gguf
from thinkscale.engines.weights import resolve
from thinkscale.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EXTRA = 'install the extra: `pip install "thinkscale[hf]"`'
_MIB = 1 << 20
_READ = ("*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "*.py")


class Loads(Protocol):
    """An `Auto…` class of transformers."""

    def from_pretrained(self, folder: str, **settings: object) -> tuple[PreTrainedModel, Mapping[str, set[str]]]:
        """Load what is in a folder, and with `output_loading_info` tell what was not there."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk, before anything of it is loaded."""

    folder: Path
    gguf: str
    """Name of the GGUF file in `folder`; empty when the weights are in the library's own format."""
    name: str
    identity: str
    """`<name>@<hash of the sizes, beginnings and ends of all files that matter>`."""
    context: int | None
    """Tokens of context the model was trained on."""
    template: str
    """The Jinja chat template, or the empty string."""
    architecture: str
    """Class that the model was saved from, such as `LlamaForCausalLM`; empty for a GGUF file."""

    def tokenizer(self, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
        """Load the tokenizer.

        Raises:
            ModelError: the extra is not installed, or there is no tokenizer that can be read.
        """
        transformers = _library()
        try:
            return transformers.AutoTokenizer.from_pretrained(
                str(self.folder), trust_remote_code=trust_remote_code, **self._gguf()
            )
        except Exception as error:
            # The readers of each format beneath have exceptions of their own.
            raise ModelError(f"the tokenizer of `{self.name}` cannot be loaded: {_first_line(error)}") from error

    def load(self, loader: str, *, dtype: str, device: str | None, trust_remote_code: bool = False) -> PreTrainedModel:
        """Load the weights, ready to be run and not to be trained.

        Args:
            loader: name of the `Auto…` class that reads them.
            dtype: a floating-point type of torch, such as `bfloat16`, or `auto` for the checkpoint's own.
            device: where they go; `None` is the first GPU, or the processor where there is none.
            trust_remote_code: run Python code that comes with the checkpoint.

        Raises:
            ModelError: the extra is not installed, the weights cannot be loaded, or some that it takes are not there.
        """
        import torch  # noqa: PLC0415 — an extra

        transformers = _library()
        kind: torch.dtype | str | None = "auto" if dtype == "auto" else getattr(torch, dtype, None)
        if kind is None:
            raise ModelError(f"cannot load `{self.name}` as `{dtype}`: name a type of torch, such as `bfloat16`")
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        auto: Loads = getattr(transformers, loader)
        try:
            model, told = auto.from_pretrained(
                str(self.folder),
                dtype=kind,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **self._gguf(),
            )
            ready = model.to(place).eval().requires_grad_(False)
        except Exception as error:
            raise ModelError(f"`{self.name}` cannot be loaded by transformers: {_first_line(error)}") from error
        if missing := sorted(told["missing_keys"]):
            # The library would go on with random numbers in their place.
            raise ModelError(
                f"`{self.name}` has no `{missing[0]}`, one of {len(missing)} weights that `{loader}` wants and misses:"
                " choose a model of that kind"
            )
        return ready

    def _gguf(self) -> Mapping[str, str]:
        return {"gguf_file": self.gguf} if self.gguf else {}


def find_checkpoint(source: str | Path | None) -> Checkpoint:
    """The checkpoint that a name stands for; a repository of a hub is fetched first.

    Args:
        source: a folder, a GGUF file, `owner/name` or `owner/name:file.gguf` of a hub, or `None` for the default
            weights.

    Raises:
        ModelError: it is none of these, or what is there is no checkpoint.
    """
    path = Path(source or "").expanduser()
    if source and path.is_dir():
        return _from_folder(path, path.resolve().name)
    if source and not path.exists() and isinstance(source, str) and _is_repository(source):
        return _from_folder(_snapshot(source), source)
    file = path if source and path.exists() else resolve(str(source or ""))
    header = read_gguf(file)
    return Checkpoint(
        folder=file.parent,
        gguf=file.name,
        name=header.name,
        identity=header.identity,
        context=header.context or None,
        template=header.template,
        architecture="",
    )


def _is_repository(source: str) -> bool:
    return source.count("/") == 1 and all(source.split("/")) and source[0] not in ".~" and ".gguf" not in source


def _from_folder(folder: Path, name: str) -> Checkpoint:
    config = _json(folder / "config.json", name)
    if not config:
        raise ModelError(f"`{folder}` is not a model: it has no `config.json` that says what it is")
    inner = config.get("text_config")
    lengths = [c.get(key) for c in (config, inner) if isinstance(c, dict) for key in _CONTEXT]
    architectures = config.get("architectures")
    return Checkpoint(
        folder=folder,
        gguf="",
        name=name,
        identity=f"{name}@{_digest(folder)}",
        context=next((length for length in lengths if isinstance(length, int)), None),
        template=_template(folder, name),
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else "",
    )


_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def _template(folder: Path, name: str) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return str(_json(folder / "tokenizer_config.json", name).get("chat_template") or "")


def _json(file: Path, name: str) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"`{file.name}` of `{name}` cannot be read ({error}): fetch the model again") from error
    return found if isinstance(found, dict) else {}


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted({f for pattern in _READ for f in folder.glob(pattern)}):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as source:
            digest.update(source.read(_MIB))
            source.seek(max(0, size - _MIB))
            digest.update(source.read(_MIB))
    return digest.hexdigest()[:16]


def _snapshot(repository: str) -> Path:
    try:
        import huggingface_hub  # noqa: PLC0415 — an extra
    except ImportError as error:
        raise ModelError(f"reading `{repository}` from a hub needs more than is installed: {EXTRA}") from error
    try:
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(_READ)))
    except Exception as error:
        # The client lets errors of its transport through, and their classes change with its version.
        raise ModelError(
            f"cannot fetch `{repository}` from the hub ({type(error).__name__}), and no folder is called so: check the"
            " name, or pass the folder of a model you have"
        ) from error


def _library() -> ModuleType:
    try:
        import torch  # noqa: F401, PLC0415 — an extra, and transformers needs it
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(
            f"running a model through transformers needs more than is installed ({error}): {EXTRA}"
        ) from error
    library: ModuleType = transformers
    return library


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
