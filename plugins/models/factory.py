"""A person's own model: made by a factory that the person names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from torch import nn
from torch.ao.quantization import QuantStub

from qx import Unsupported, UsageError

#: Where models keep how their inputs are made (timm, and what follows it).
METADATA = ("pretrained_cfg", "default_cfg")


def make(target: str, *, quantizable: bool = False) -> nn.Module:
    """The model that the factory ``target`` makes: ``package.module:factory`` or ``path/file.py:factory``.

    A factory that takes an argument ``quantizable`` is given it. Raises ``UsageError`` where there is no such
    factory or it fails, and ``Unsupported`` where no quantizable form can be had.
    """
    factory = find(target)
    if not quantizable:
        return _called(target, factory)
    model = (
        _called(target, factory, quantizable=True)
        if _takes_quantizable(factory)
        else _called(target, factory)
    )
    kind = type(model).__name__
    if not any(isinstance(module, QuantStub) for module in model.modules()):
        raise Unsupported(
            f"{kind} has no QuantStub, which tells eager-mode quantization where 8 bits begin; give a "
            f"factory that takes quantizable=True and then puts the stubs in"
        )
    if not hasattr(model, "fuse_model"):
        raise Unsupported(f"{kind} has no fuse_model(), which eager-mode quantization calls")
    return model


def find(target: str) -> Callable[..., Any]:
    """The factory itself. Raises ``UsageError``."""
    place, colon, name = target.rpartition(":")
    if not (place and colon and name):
        raise UsageError(f"--model {target}: expected MODULE:FACTORY or FILE.py:FACTORY")
    try:
        module = _from_file(place) if place.endswith(".py") else _imported(place)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"--model {target}: {place} cannot be imported: {_told(error)}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"--model {target}: {place} has no {name!r}{_choices(module)}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, nn.Module):
        raise UsageError(
            f"--model {target}: {name} is an object of type {type(found).__name__}; expected a function or "
            f"class that makes the model"
        )
    factory: Callable[..., Any] = found
    return factory


def metadata(target: str) -> Mapping[str, Any]:
    """How the model says that its inputs are made (``mean``, ``std``, ``crop_pct``); empty without."""
    model = make(target)
    for name in METADATA:
        told = getattr(model, name, None)
        if told is None:
            continue
        told = told.to_dict() if hasattr(told, "to_dict") else told
        if isinstance(told, Mapping):
            return dict(told)
    return {}


def _imported(name: str) -> Any:
    # After everything else: a file of the current folder is found, and stands in for no module.
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)


@cache
def _from_file(place: str) -> Any:
    path = Path(place).resolve()
    if not path.is_file():
        raise UsageError(f"--model {place}: there is no such file")
    # What it imports from beside it is found, as if it were run by itself.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"_qx_model_{path.stem}_{crc32(os.fsencode(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs, as the import system does: what it defines may look its own module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _called(target: str, factory: Callable[..., Any], **arguments: Any) -> nn.Module:
    try:
        model = factory(**arguments)
    except Unsupported:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"--model {target}: the factory raised {_told(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"--model {target}: the factory gave {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _takes_quantizable(factory: Callable[..., Any]) -> bool:
    import inspect

    try:
        return "quantizable" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _choices(module: Any) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]
    return f" (it has {', '.join(names[:8])}{' and more' if len(names) > 8 else ''})" if names else ""


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
