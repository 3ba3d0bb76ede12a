"""Models as the user names them: a workload, or what makes a model of the user's own.

Nothing is imported here: a file is looked at, and the workers import it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import evolve, frozen

from qx.contract.records import Workload
from qx.errors import UsageError
from qx.foreign import one_line, to_line
from qx.host.host import Entry, Host
from qx.storage.session_objects import REFERENCE
from qx.worker.file_kinds import EXPORTED_PROGRAM, ONNX, TORCHSCRIPT, is_safetensors, other_kind, read_head

#: What a model may be, in words for messages.
FORMS = (
    "FILE.py, FILE.py:FACTORY, FILE.pt2, FILE.onnx, package.module:FACTORY, timm:NAME, torchvision:NAME, "
    "hf:FOLDER_OR_ID, or a workload's name"
)
#: Suffixes of files that hold a graph and its weights, and what such a file is.
GRAPHS = {".pt2": EXPORTED_PROGRAM, ".onnx": ONNX}
#: Libraries whose models are named without a factory. A module of the same name comes after them.
LIBRARIES = ("timm", "torchvision")
#: The beginning of models of the library transformers.
HF = "hf:"
#: Longest part, in characters, of the name of a model in results that comes from the user's word.
MAX_NAME = 60
#: Longest word, in characters, that a message quotes.
MAX_SHOWN = 200
#: What to do with a file that holds a model in another form.
ADVICE = {
    TORCHSCRIPT: "TorchScript cannot be quantized: give the Python module that it was made from, as "
    "FILE.py or FILE.py:FACTORY",
    EXPORTED_PROGRAM: "rename it to FILE.pt2",
    ONNX: "rename it to FILE.onnx",
}


@frozen
class OwnModel:
    """A model of the user's own, as a word of the command line names it."""

    #: What makes the model, as the workload takes it.
    target: str
    #: Name in results, before it is made unique; empty for a model of a Python session.
    name: str


def to_model(word: str) -> OwnModel | None:
    """Return the model of the user's own that a word names; None where the word can only name a workload.

    Raises ``UsageError`` for a word that names neither, and for a file that holds no Python source.
    """
    shown = to_line(word, MAX_SHOWN)
    library, _, name = word.partition(":")
    if REFERENCE.fullmatch(word):
        return OwnModel(word, "")
    if library in LIBRARIES and ":" in word:
        if re.fullmatch(r"[\w.\-]+", name) is None:
            raise UsageError(f"MODEL {shown}: expected a name of {library}, such as {library}:resnet18")
        return OwnModel(word, f"{library}_{name}")
    if word.startswith(HF):
        return OwnModel(word, _name_of_transformers(name, shown))
    if match := re.fullmatch(r"(?P<file>.*\.py)(:(?P<factory>[\w.]+))?", word, re.DOTALL):
        _check_source(Path(match["file"]), shown)
        return OwnModel(word, "_".join(filter(None, (Path(match["file"]).stem, match["factory"]))))
    if holds_graph(word) and Path(word).exists():
        _check_graph(Path(word), shown)
        return OwnModel(word, Path(word).stem)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", word):
        module, _, factory = word.partition(":")
        return OwnModel(word, f"{module.rpartition('.')[2]}_{factory}")
    if re.fullmatch(r"[\w-]+", word):
        return None
    raise UsageError(f"MODEL {shown} {_what_it_is(Path(word))}")


def may_be_trained(target: str) -> bool:
    """Return whether what makes a model may give it trained weights without an option that says so."""
    return target.endswith(".py") or target.startswith(HF) or holds_graph(target)


def _name_of_transformers(name: str, shown: str) -> str:
    """Return the name in results of a model of transformers, a folder or an id of the hub.

    Raises ``UsageError`` for what is neither.
    """
    try:
        folder = Path(name).expanduser()
        if name and folder.is_dir():
            return f"hf_{folder.resolve().name}"
        if name and folder.exists():
            raise UsageError(f"MODEL {shown}: {name} is a file; expected the folder that it lies in")
    # The home folder of a user who does not exist is a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise UsageError(f"MODEL {shown}: {one_line(error)}") from error
    if re.fullmatch(r"\w[\w.\-]*(/\w[\w.\-]*)?", name):
        return f"hf_{name.rpartition('/')[2]}"
    raise UsageError(f"MODEL {shown}: there is no such folder; expected a folder, or an id of the hub")


def _check_source(file: Path, shown: str) -> None:
    """Raise ``UsageError`` unless a file may hold Python source."""
    try:
        if not file.exists():
            raise UsageError(f"MODEL {shown}: there is no such file")
        if not file.is_file():
            raise UsageError(f"MODEL {shown}: {file} is a folder, not a file")
        if kind := _kind(file):
            raise UsageError(f"MODEL {shown}: {file} is {kind}, no Python source{_advice(kind)}")
    except OSError as error:
        raise UsageError(f"MODEL {shown}: {error.strerror}") from error


def holds_graph(target: str) -> bool:
    """Return whether a model is named as a file that holds a graph and its weights."""
    return Path(target).suffix in GRAPHS


def _check_graph(file: Path, shown: str) -> None:
    """Raise ``UsageError`` unless a file holds what its suffix says."""
    expected = GRAPHS[file.suffix]
    try:
        if not file.is_file():
            raise UsageError(f"MODEL {shown}: {file} is a folder, not a file")
        if (kind := _kind(file) or "something else") != expected:
            raise UsageError(f"MODEL {shown} is {kind}, not {expected}{_advice(kind)}")
    except OSError as error:
        raise UsageError(f"MODEL {shown}: {error.strerror}") from error


def _kind(file: Path) -> str:
    """Return what a file is that holds no Python source; empty where it may hold some."""
    head = read_head(file)
    if not head:
        return "empty"
    if is_safetensors(head, file):
        return "a file of weights (safetensors)"
    if (kind := other_kind(head, file)) not in ("", ONNX):
        return kind
    if head.startswith((b"PK", b"\x80")):
        return "a file of weights (torch.save)"
    # A suffix alone makes no model.
    return (kind or "a binary file") if b"\0" in head or head[:1] == b"\x08" else ""


def _advice(kind: str) -> str:
    if kind.startswith("a file of weights"):
        return "; give weights with --weights, beside what makes their model"
    return f"; {ADVICE[kind]}" if kind in ADVICE else ""


def _what_it_is(path: Path) -> str:
    """Return what is wrong with a word that has no form of a model, as the end of a sentence."""
    try:
        if path.is_dir():
            return f"is a folder; expected {FORMS}"
        if path.is_file():
            kind = _kind(path) or "no Python file (.py)"
            return f"is {kind}{_advice(kind) or f'; expected {FORMS}'}"
    except OSError:
        pass
    if path.suffix or "/" in str(path):
        return f"is no file that exists, and nothing else that makes a model; expected {FORMS}"
    return f"is nothing that makes a model; expected {FORMS}"


def entry_of_model(host: Host, model: OwnModel, options: Mapping[str, str], taken: Sequence[str]) -> Entry:
    """Return an entry of the workload that takes models, for this model and under a name of its own.

    ``options`` are values of the workload's options beside the model, and ``taken`` the names that other
    models have already. Raises ``UsageError``.
    """
    plugin = _workload_for_models(host)
    values = {"model": model.target, **options}
    record = plugin.record
    assert isinstance(record, Workload)
    names = {option.name for option in record.options}
    for name in values:
        if name not in names:
            raise UsageError(f"--{name.replace('_', '-')}: workload {plugin.name} has no option {name!r}")
    unavailable = {*taken, *(entry.name for entry in host.entries)}
    name = _unique_name(model.name, unavailable) if model.name else plugin.name
    return evolve(plugin, name=name, fixed_options=values)


def _workload_for_models(host: Host) -> Entry:
    candidates = [
        entry
        for entry in host.ready("workload")
        if isinstance(entry.record, Workload) and entry.record.takes_model
    ]
    if len(candidates) != 1:
        names = ", ".join(entry.name for entry in candidates) or "none"
        raise UsageError(f"MODEL: exactly one workload must have takes_model=True; found: {names}")
    return candidates[0]


def _unique_name(text: str, taken: set[str]) -> str:
    """Return a name that a workload can have, like the text and different from those that are taken."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:MAX_NAME] or "model"
    name = name if name[0].isalpha() else f"model_{name}"
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
