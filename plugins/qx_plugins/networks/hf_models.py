"""Models of the library transformers, ``hf:FOLDER_OR_ID``: the folder, its architecture, its weights.

No code of a model's folder is run, and weights are read as tensors alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import nn

from qx import Context, ModelFacts, Unsupported, UsageError, one_line
from qx_plugins.networks.hf_decoders import is_decoder, make_decoder

#: The beginning of MODEL.
PREFIX = "hf:"
#: What installs the library.
INSTALL = "pip install transformers"
#: Endings of names of architectures, and the task of each.
TASKS = {
    "ForSequenceClassification": "classification",
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "ForAudioClassification": "classification",
    "ForTokenClassification": "token_classification",
    "ForSemanticSegmentation": "segmentation",
    "ForObjectDetection": "detection",
    "ForQuestionAnswering": "question_answering",
    "ForMaskedLM": "language_modelling",
    "ForCausalLM": "language_modelling",
    "LMHeadModel": "language_modelling",
    # Last, since it ends other names too.
    "Model": "embedding",
}
#: Files of a folder with weights, in the order in which they are looked for: safetensors, then pickles.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: Files of a folder with weights of other libraries.
FOREIGN_WEIGHTS = {"tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax"}
#: Files that are fetched from the hub: not the same weights in other formats.
FETCHED = ("*.json", "*.txt", "*.model", "*.safetensors")
#: Most architectures, or missing weights, that a message lists.
SHOWN = 3
#: Keyword arguments of ``from_pretrained`` that ``--model-args`` may give beside settings of the model.
ARGUMENTS = ("attn_implementation",)


def is_transformers(target: str) -> bool:
    """Return whether a model is one of transformers."""
    return target.startswith(PREFIX)


def factory_of_transformers(target: str) -> Callable[..., nn.Module] | None:
    """Return what makes a model of transformers; None where another one is named. Raises ``UsageError``."""
    if not is_transformers(target):
        return None

    def make(context: Context, quantizable: bool = False, **arguments: Any) -> nn.Module:
        if quantizable:
            raise Unsupported(
                "models of transformers have no QuantStub, which tells eager-mode quantization where 8 bits "
                "begin"
            )
        return make_transformers_model(target, context, arguments)

    return make


# The folder ---------------------------------------------------------------------------------------


@frozen
class Source:
    """The folder of a model of transformers, and its settings."""

    target: str
    folder: Path
    #: Content of ``config.json``.
    settings: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        """Name of the class of the model. Raises ``UsageError`` where the settings have none."""
        names: Sequence[Any] = self.settings.get("architectures") or ()
        if len(names) != 1 or not isinstance(names[0], str):
            shown = ", ".join(map(str, names)) or "none"
            raise UsageError(f"MODEL {self.target}: config.json must name one architecture; it names {shown}")
        return str(names[0])

    @property
    def task(self) -> str:
        """Task by the architecture and the settings. Raises ``UsageError`` for one that is not known."""
        name = self.architecture
        suffix = next((suffix for suffix in TASKS if name.endswith(suffix)), None)
        if suffix is None or self.settings.get("is_encoder_decoder"):
            known = ", ".join(f"...{suffix}" for suffix in TASKS)
            what = "has an encoder and a decoder" if suffix else "is not taken"
            raise UsageError(f"MODEL {self.target}: the architecture {name} {what}; expected {known}")
        if suffix == "ForSequenceClassification":
            problem = self.settings.get("problem_type")
            if problem == "multi_label_classification":
                return str(problem)
            if problem == "regression" or len(self.labels) == 1:
                return "regression"
        return TASKS[suffix]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in their order; empty where the settings have none."""
        names = self.settings.get("id2label")
        if names is None:
            count = self.settings.get("num_labels", 2)
            return tuple(f"LABEL_{index}" for index in range(int(count)))
        return tuple(str(names[key]) for key in sorted(names, key=int))

    @property
    def forward(self) -> tuple[str, ...]:
        """Names of the arguments of ``forward``, in their order."""
        import inspect

        model_class: Any = _class_of(self)
        return tuple(inspect.signature(model_class.forward).parameters)


def find_source(target: str, context: Context) -> Source:
    """Return the folder of a model, which the hub's library fetches where it is none of this machine.

    Raises ``UsageError``.
    """
    import_transformers(target)
    name = target.removeprefix(PREFIX)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetch(target, name, offline=context.offline)
    return Source(target, folder, _read_settings(target, folder))


def import_transformers(target: str) -> Any:
    """Import the library, which then prints no progress and no warnings. Raises ``UsageError``."""
    try:
        import transformers
    except ImportError as error:
        raise UsageError(f"MODEL {target}: transformers is not installed: {INSTALL}") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@cache
def _fetch(target: str, name: str, *, offline: bool) -> Path:
    """Return the folder in the hub's cache, fetched where it is not there. Raises ``UsageError``."""
    from huggingface_hub import snapshot_download, utils

    quiet: Any = utils
    quiet.disable_progress_bars()
    problem: Exception = OSError("nothing was tried")
    # What is there is used as it is, so that all processes of a run, and later runs, have one version.
    for is_local in (True,) if offline else (True, False):
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(FETCHED), local_files_only=is_local))
            if not is_local and not any((folder / file).is_file() for file in WEIGHTS):
                folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.bin"]))
        # Errors of the network, of the hub, and of names that it does not allow.
        except Exception as error:
            problem = error
        else:
            if (folder / "config.json").is_file() and any((folder / file).is_file() for file in WEIGHTS):
                return folder
    reason = "it is not in the hub's cache, and --offline is set" if offline else one_line(problem)
    raise UsageError(
        f"MODEL {target}: no folder {name!r} here, and the model cannot be had from the hub: {reason}"
    ) from problem


def _read_settings(target: str, folder: Path) -> Mapping[str, Any]:
    """Return the content of ``config.json``. Raises ``UsageError``."""
    file = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"MODEL {target}: this folder holds an adapter (adapter_config.json): merge it into its model "
            f"and save that with save_pretrained()"
        )
    if not file.is_file():
        names = sorted(path.name for path in folder.iterdir())[:SHOWN]
        has = f"it has {', '.join(names)}" if names else "it is empty"
        raise UsageError(
            f"MODEL {target}: no config.json in this folder ({has}); expected what save_pretrained() leaves"
        )
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"MODEL {target}: config.json cannot be read: {one_line(error)}") from error
    if not isinstance(settings, dict) or not settings.get("model_type"):
        raise UsageError(f"MODEL {target}: config.json is not that of transformers: it has no model_type")
    if quantization := settings.get("quantization_config"):
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        raise UsageError(
            f"MODEL {target}: its weights are quantized already ({to_word(method)}): give the model in floats"
        )
    return settings


def to_word(value: object) -> str:
    """Return a value of a file as a short word for a message."""
    return re.sub(r"[^\w.\-]", "_", str(value))[:60]


def _class_of(source: Source) -> type:
    """Return the class of the model. Raises ``UsageError`` where the library has none of that name."""
    transformers = import_transformers(source.target)
    name = source.architecture
    kind = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
        return kind
    if source.settings.get("auto_map"):
        raise UsageError(
            f"MODEL {source.target}: the architecture {to_word(name)} needs code of its own (auto_map), "
            f"which is never run: make the model in a FILE.py"
        )
    raise UsageError(
        f"MODEL {source.target}: transformers {transformers.__version__} has no architecture {to_word(name)}"
    )


# The model ----------------------------------------------------------------------------------------


def make_transformers_model(target: str, context: Context, arguments: Mapping[str, Any]) -> nn.Module:
    """Make the model of a folder with the folder's weights, in fp32. Raises ``UsageError``.

    ``arguments`` replace settings of the model. Without weights in the folder they are random.
    """
    source = find_source(target, context)
    task, kind = source.task, _class_of(source)
    config = _config_of(source, kind, arguments)
    chosen = {key: arguments[key] for key in ARGUMENTS if key in arguments}
    file = next((name for name in WEIGHTS if (source.folder / name).is_file()), None)
    if file is None:
        _check_no_other_weights(source)
        model = kind._from_config(config, dtype=torch.float32, **chosen)  # type: ignore[attr-defined]
        missing: list[str] = []
        note = "the folder has no weights: they are random"
    else:
        model, missing = _load(source, kind, config, file, chosen)
        note = f"not among the weights of the folder, so random: {_shown(missing)}" if missing else ""
    identity = _text_of(config)
    if task == "embedding":
        model = Embedder(model, pooling := Pooling.of(source))
        identity += repr(pooling)
        # A pooler that is not asked adds nothing to the vector.
        missing = [name for name in missing if not name.startswith("pooler.")]
        note = note if missing or file is None else ""
    if is_decoder(source):
        model = make_decoder(model)
    facts = ModelFacts(
        identity=hashlib.sha256(identity.encode()).hexdigest(),
        trained=file is not None and not missing,
        note=note,
    )
    made: nn.Module = model
    made.qx_facts = facts  # type: ignore[assignment]
    return made


def _text_of(config: Any) -> str:
    """Return the settings that decide a model as text, without where it lies and what wrote it."""
    settings = {
        key: value
        for key, value in config.to_dict().items()
        if key not in ("_name_or_path", "transformers_version")
    }
    return json.dumps(settings, sort_keys=True, default=str)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(sorted(names)[:SHOWN])}{more}"


def _config_of(source: Source, kind: type, arguments: Mapping[str, Any]) -> Any:
    """Return the settings of the model, with those of ``--model-args``. Raises ``UsageError``."""
    transformers = import_transformers(source.target)
    try:
        config = transformers.AutoConfig.from_pretrained(
            source.folder, local_files_only=True, trust_remote_code=False
        )
    # Settings of the wrong type may raise anything.
    except Exception as error:
        raise UsageError(f"MODEL {source.target}: config.json: {one_line(error)}") from error
    for name, value in arguments.items():
        if name in ARGUMENTS:
            continue
        if not hasattr(config, name):
            raise UsageError(f"--model-args {name}: {type(config).__name__} has no setting of this name")
        setattr(config, name, value)
    for name, value in {"use_cache": False, "return_dict": True}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    config.output_hidden_states = config.output_attentions = False
    _pad_like_tokenizer(source, config)
    return config


def _pad_like_tokenizer(source: Source, config: Any) -> None:
    """Set the token that pads, which decoders that classify look for, where only the tokenizer has one."""
    has_tokenizer = (source.folder / "tokenizer_config.json").is_file()
    is_classifier = source.architecture.endswith("ForSequenceClassification")
    if is_classifier and has_tokenizer and getattr(config, "pad_token_id", None) is None:
        from qx_plugins.datasets.hf_processors import load_tokenizer

        config.pad_token_id = load_tokenizer(source.target, source.folder).pad_token_id


def _check_no_other_weights(source: Source) -> None:
    """Raise ``UsageError`` where the folder has weights in a form that is not read."""
    names = {path.name for path in source.folder.iterdir()}
    for name, library in FOREIGN_WEIGHTS.items():
        if name in names:
            raise UsageError(
                f"MODEL {source.target}: {name} holds weights for {library}; expected {WEIGHTS[0]}"
            )
    others = [name for name in sorted(names) if name.endswith((".bin", ".safetensors", ".pt", ".gguf"))]
    if others and others != ["training_args.bin"]:
        raise UsageError(
            f"MODEL {source.target}: no {WEIGHTS[0]} or {WEIGHTS[2]} in this folder; it has {others[0]}"
        )


def _load(
    source: Source, kind: Any, config: Any, file: str, chosen: Mapping[str, Any]
) -> tuple[nn.Module, list[str]]:
    """Return the model with its weights, and the names of those that are missing. Raises ``UsageError``."""
    is_safe = file in WEIGHTS[:2]
    if not is_safe:
        _check_pickles(source, file)
    try:
        model, report = kind.from_pretrained(
            source.folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=is_safe,
            weights_only=True,
            output_loading_info=True,
            **chosen,
        )
    except Exception as error:
        raise UsageError(
            f"MODEL {source.target}: {file} does not fit {source.architecture}: {one_line(error)}"
        ) from error
    return model.float(), sorted(report["missing_keys"])


def _check_pickles(source: Source, file: str) -> None:
    """Raise ``UsageError`` for pickles that hold more than tensors, before the library reads them."""
    import pickle

    names = [file]
    if file.endswith(".json"):
        try:
            index = json.loads((source.folder / file).read_text(encoding="utf-8"))
            names = sorted({Path(name).name for name in index["weight_map"].values()})
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UsageError(f"MODEL {source.target}: {file} cannot be read: {one_line(error)}") from error
    for name in names:
        try:
            torch.load(source.folder / name, map_location="meta", weights_only=True)
        # A damaged file may raise anything.
        except Exception as error:
            if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(source.folder / name):
                raise UsageError(
                    f"MODEL {source.target}: {name} holds more than tensors, and loading it could run code: "
                    f"save the model with save_pretrained(), which writes safetensors"
                ) from error
            raise UsageError(f"MODEL {source.target}: {name} cannot be read: {one_line(error)}") from error


# Embeddings ---------------------------------------------------------------------------------------


@frozen
class Pooling:
    """How the vectors of an item's tokens become the vector of the item."""

    #: ``mean``, ``cls`` or ``max`` over the tokens.
    mode: str = "mean"
    #: Whether the vector is scaled to length 1.
    normalizes: bool = False

    @classmethod
    def of(cls, source: Source) -> Pooling:
        """Return what the folder says, as sentence-transformers leaves it; the mean where it says nothing.

        Raises ``UsageError`` for another pooling.
        """
        steps = _read_list(source.folder / "modules.json")
        folders = {str(step.get("type", "")).rpartition(".")[2]: str(step.get("path", "")) for step in steps}
        settings = _read_list(source.folder / folders.get("Pooling", "1_Pooling") / "config.json")
        flags = settings[0] if settings else {}
        modes = {
            "mean": flags.get("pooling_mode_mean_tokens", not flags),
            "cls": flags.get("pooling_mode_cls_token", False),
            "max": flags.get("pooling_mode_max_tokens", False),
        }
        if "pooling_mode" in flags:
            modes = {name: flags["pooling_mode"] == name for name in modes}
        chosen = [name for name, is_chosen in modes.items() if is_chosen]
        others = [name for name in folders if name not in ("Transformer", "Pooling", "Normalize", "")]
        if len(chosen) != 1 or others:
            what = f"the step {to_word(others[0])}" if others else "its pooling"
            raise UsageError(
                f"MODEL {source.target}: {what} of sentence-transformers is not taken; expected one of mean, "
                f"cls or max over the tokens"
            )
        return cls(chosen[0], "Normalize" in folders)


def _read_list(file: Path) -> list[dict[str, Any]]:
    """Return the objects in a JSON file; empty where there is none. Raises ``UsageError``."""
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {one_line(error)}") from error
    return [part for part in (content if isinstance(content, list) else [content]) if isinstance(part, dict)]


class Embedder(nn.Module):
    """A model of transformers that gives one vector for each item, ``[batch, width]``."""

    def __init__(self, model: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self._pooling = pooling

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the vector of each item, over those tokens that ``attention_mask`` keeps."""
        returned = self.model(**inputs)
        tokens = returned.last_hidden_state
        if tokens.ndim == 4:
            # Maps of a convolutional network: [batch, channels, height, width].
            tokens = tokens.flatten(2).transpose(1, 2)
        vector = self._pool(tokens, inputs.get("attention_mask"))
        if self._pooling.normalizes:
            vector = nn.functional.normalize(vector, dim=-1)
        return {"embedding": vector}

    def _pool(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self._pooling.mode == "cls":
            return tokens[:, 0]
        if mask is None or mask.shape[1] != tokens.shape[1]:
            return tokens.mean(1) if self._pooling.mode == "mean" else tokens.amax(1)
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        if self._pooling.mode == "mean":
            return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return tokens.masked_fill(weights == 0, -1e9).amax(1)
