"""Models of libraries by their names: ``timm:NAME`` and ``torchvision:NAME``, always with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from qx import Unsupported, UsageError

LIBRARIES = ("timm", "torchvision")
#: Most names that a message lists.
SHOWN = 5


def is_in_library(target: str) -> bool:
    """Return whether a model is named by a library's name for it."""
    return target.partition(":")[0] in LIBRARIES


def factory_in_library(target: str) -> Callable[..., Any] | None:
    """Return what makes the model of a library; None where no library is named. Raises ``UsageError``."""
    library, _, name = target.partition(":")
    if library == "timm":
        return _timm(target, name)
    return _torchvision(target, name) if library == "torchvision" else None


def _timm(target: str, name: str) -> Callable[..., Any]:
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"MODEL {target}: timm is not installed: pip install timm") from error
    if not timm.is_model(name):
        raise _unknown(target, name, timm.list_models())

    def make(**arguments: Any) -> nn.Module:
        model: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        return model

    return make


def _torchvision(target: str, name: str) -> Callable[..., Any]:
    try:
        from torchvision import models
    except ImportError as error:
        raise UsageError(f"MODEL {target}: torchvision is not installed: pip install torchvision") from error
    names = models.list_models()
    if name not in names:
        raise _unknown(target, name, names)

    def make(quantizable: bool = False, **arguments: Any) -> nn.Module:
        model: nn.Module
        if quantizable:
            if f"quantized_{name}" not in names:
                raise Unsupported(f"torchvision has no form of {name} with quantize and dequantize stubs")
            model = models.get_model(f"quantized_{name}", weights=None, quantize=False, **arguments)
            return model
        # Detectors and segmenters would download the weights of their backbone.
        if "weights_backbone" in _arguments(models.get_model_builder(name)):
            arguments.setdefault("weights_backbone", None)
        model = models.get_model(name, weights=None, **arguments)
        return model

    return make


def _arguments(builder: Callable[..., Any]) -> Mapping[str, Any]:
    import inspect

    return inspect.signature(builder).parameters


def _unknown(target: str, name: str, names: list[str]) -> UsageError:
    from difflib import get_close_matches

    library = target.partition(":")[0]
    close = get_close_matches(name, names, SHOWN) or [other for other in names if name in other][:SHOWN]
    hint = f"; similar ones are {', '.join(close)}" if close else ""
    return UsageError(f"MODEL {target}: {library} has no model of this name{hint}")


def metadata_of_torchvision(target: str) -> dict[str, Any]:
    """Return what torchvision says of a model's inputs; empty for models of other libraries.

    The names are timm's: ``mean``, ``std``, ``crop_pct``, ``input_size`` (channels, height, width) and
    ``num_classes``. They are those of the published weights, which need not be here.
    """
    library, _, name = target.partition(":")
    if library != "torchvision":
        return {}
    from torchvision import models

    try:
        published = models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        return {}
    transform = published.transforms()
    crop, resize = getattr(transform, "crop_size", None), getattr(transform, "resize_size", None)
    metadata: dict[str, Any] = {
        key: list(value) for key in ("mean", "std") if (value := getattr(transform, key, None))
    }
    if crop:
        metadata["input_size"] = (3, crop[0], crop[-1])
        metadata["crop_pct"] = crop[0] / resize[0] if resize else 1.0
    if categories := published.meta.get("categories"):
        metadata["num_classes"] = len(categories)
    return metadata
