"""Make the user's own model by a factory that the user names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.ao.quantization import QuantStub

from qx import Context, Unsupported, UsageError, one_line, session_object
from qx_plugins.networks.graph_files import factory_in_graph_file
from qx_plugins.networks.hf_models import factory_of_transformers
from qx_plugins.networks.libraries import factory_in_library, metadata_of_torchvision
from qx_plugins.networks.model_file import arguments_of, import_source, is_model_file, shown_names
from qx_plugins.recipes.tracing import check_layers

#: Attributes of a model that describe its inputs, in timm and libraries like it.
METADATA = ("pretrained_cfg", "default_cfg")
#: How references to objects of a session begin.
SESSION = "session:"


def make_from_factory(
    target: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    quantizable: bool = False,
    context: Context | None = None,
) -> nn.Module:
    """Make the model by calling a factory: ``package.module:factory`` or ``path/file.py:factory``.

    ``target`` may also be a file alone, whose function ``make_model`` is called, ``timm:NAME``,
    ``torchvision:NAME``, ``hf:FOLDER_OR_ID``, ``FILE.pt2``, ``FILE.onnx``, or refer to a model or a factory
    of the Python session that has called ``qx.run``. ``arguments`` are the keyword arguments of the call. A
    factory that takes an argument ``context`` gets it, and one that takes ``quantizable`` is called with it
    to make the quantizable form. Raises ``UsageError`` where there is no such factory, where its arguments do
    not fit or where it fails, and ``Unsupported`` where it has no quantizable form.
    """
    factory, keywords = find_factory(target), dict(arguments or {})
    takes = arguments_of(factory)
    if "context" in takes:
        keywords.setdefault("context", context or Context())
    if takes.get("quantizable"):
        keywords["quantizable"] = quantizable
    _check_arguments(target, factory, keywords)
    if not quantizable:
        return _call(target, factory, **keywords)
    if "quantizable" in takes:
        keywords["quantizable"] = True
    model = _call(target, factory, **keywords)
    kind = type(model).__name__
    if not any(isinstance(module, QuantStub) for module in model.modules()):
        check_layers(model)
        raise Unsupported(
            f"{kind} has no QuantStub, which tells eager-mode quantization where 8 bits begin; give a "
            f"factory that takes quantizable=True and then puts the stubs in"
        )
    if not hasattr(model, "fuse_model"):
        raise Unsupported(f"{kind} has no fuse_model(), which eager-mode quantization calls")
    return model


def find_factory(target: str) -> Callable[..., Any]:
    """Import and return the factory. Raises ``UsageError``."""
    if target.startswith(SESSION):
        return _session_factory(target)
    if (in_library := factory_in_library(target) or factory_of_transformers(target)) is not None:
        return in_library
    if (in_file := factory_in_graph_file(target)) is not None:
        return in_file
    if is_model_file(target):
        source, name = target, "make_model"
        module = import_source(source)
        if not hasattr(module, name):
            raise UsageError(
                f"MODEL {target}: {source} has no make_model(){shown_names(module)}; name what makes the "
                f"model: {source}:FACTORY"
            )
    else:
        source, colon, name = target.rpartition(":")
        if not (source and colon and name):
            raise UsageError(f"MODEL {target}: expected MODULE:FACTORY or FILE.py:FACTORY")
        module = import_source(source) if source.endswith(".py") else _import_module(target, source)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise UsageError(f"MODEL {target}: {source} has no {name!r}{shown_names(module)}")
        value = getattr(value, part)
    if not callable(value) or isinstance(value, nn.Module):
        raise UsageError(
            f"MODEL {target}: {name} is an object of type {type(value).__name__}; expected a function or "
            f"class that makes the model"
        )
    factory: Callable[..., Any] = value
    return factory


def _session_factory(reference: str) -> Callable[..., Any]:
    """Return the factory of a session; for a model, a factory that gives the copy that was just loaded."""
    value = session_object(reference)
    if isinstance(value, nn.Module):
        return lambda: value
    assert callable(value), "qx.run has checked it"
    return value


def read_metadata(target: str, arguments: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Return the model's description of its inputs, by timm's names; empty without one.

    These are ``mean``, ``std``, ``crop_pct``, ``input_size`` and ``num_classes``.
    """
    if metadata := metadata_of_torchvision(target):
        return metadata
    model = make_from_factory(target, arguments)
    for name in METADATA:
        description = getattr(model, name, None)
        if description is None:
            continue
        description = description.to_dict() if hasattr(description, "to_dict") else description
        if isinstance(description, Mapping):
            return dict(description)
    return {}


def _import_module(target: str, name: str) -> Any:
    # The current folder comes last, so that its files replace no installed module.
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"MODEL {target}: {name} cannot be imported: {one_line(error)}") from error


def read_arguments(text: str) -> dict[str, Any]:
    """Read the keyword arguments of a factory: a Python dict of literals, as text. Raises ``UsageError``."""
    import ast

    try:
        arguments = ast.literal_eval(text) if text else {}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise UsageError(f"model_args {text}: expected a dict of names and values, such as {{'classes': 10}}")
    return arguments


def _check_arguments(target: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` where the factory cannot be called with just these keyword arguments."""
    import inspect

    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # C functions may have no signature: the call itself fails then
        return
    parameters = signature.parameters.values()
    by_keyword = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    takes = ", ".join(parameter.name for parameter in by_keyword) or "no arguments"
    names = {parameter.name for parameter in by_keyword}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if unknown := [name for name in arguments if name not in names and not takes_any]:
        raise UsageError(f"--model-args {unknown[0]}: {target} has no such argument; it takes {takes}")
    required = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if missing := [name for name in required if name not in arguments]:
        raise UsageError(
            f"MODEL {target}: the factory needs {', '.join(missing)}; add --model-args {missing[0]}=VALUE"
        )


def _call(target: str, factory: Callable[..., Any], **arguments: Any) -> nn.Module:
    try:
        model = factory(**arguments)
    except (Unsupported, UsageError):
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"MODEL {target}: the factory raised {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"MODEL {target}: the factory gave {type(model).__name__}; expected a torch.nn.Module"
        )
    return model
