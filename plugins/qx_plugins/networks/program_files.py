"""Models in ``.pt2`` files of ``torch.export``: read without running code, with any batch size."""

from __future__ import annotations

import ast
import builtins
import inspect
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument
from torch.utils import _pytree as pytree

from qx import UsageError, one_line
from qx_plugins.networks.graph_files import (
    Run,
    any_batch_note,
    check_input,
    fixed_batch,
    is_same_at_any_batch,
)
from qx_plugins.recipes.graphs import WAY_OUT, GraphInput, ProgramModel

#: Parts of the expressions for sizes, such as ``Max(Integer(1), Symbol('s0'))``: torch reads them as Python.
EXPRESSION = (
    *(ast.Expression, ast.Call, ast.Name, ast.keyword, ast.Constant, ast.Load),
    *(ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop),
)
#: Names of arguments of operators that say that a network is trained, and of those that hold sizes.
TRAINING, SIZES = ("train", "training"), ("size", "shape")
#: Beginnings of the names of files of tensors in an archive.
TENSORS = ("weight_", "tensor_")
#: Recurrent layers, as operators.
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
#: Namespaces of operators of quantized networks.
NAMESPACES = ("quantized_decomposed", "quantized", "torchao", "_quantized")


def read_program(target: str) -> ProgramModel:
    """Read a model from a ``.pt2`` file, which then takes any batch. Raises ``UsageError``.

    Where the program is for one batch size, :func:`check_program_batches` shows whether that is true.
    """
    reader = _Reader.of(target)
    if not (sizes := reader.fixed_sizes):
        return reader.model(_module(reader.program))
    changed = _read_sizes(_module(reader.program), sizes[0]) if len(sizes) == 1 else None
    if changed is None:
        raise UsageError(reader.refusal)
    return reader.model(changed)


def check_program_batches(target: str) -> None:
    """Raise ``UsageError`` where a program for one batch size gives other outputs when it takes any."""
    reader = _Reader.of(target)
    if not (sizes := reader.fixed_sizes):
        return
    fixed, changed = reader.model(_module(reader.program)), read_program(target)
    try:
        is_equal = is_same_at_any_batch(fixed.inputs, sizes[0], _runner(fixed), _runner(changed))
    # torch's error for sizes that do not fit.
    except RuntimeError as error:
        raise UsageError(reader.refusal) from error
    if not is_equal:
        raise UsageError(reader.refusal)


@frozen
class _Reader:
    """A program from a file, and its arguments by name: tensors without values, or constants."""

    target: str
    program: ExportedProgram
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, target: str) -> _Reader:
        program = _load(target)
        _check_graph(target, program)
        return cls(target, program, _arguments(target, program))

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.arguments.items() if isinstance(value, torch.Tensor)}

    @property
    def fixed_sizes(self) -> list[int]:
        """Batch sizes that the program is for; none where it takes any."""
        # Sizes that may vary are no whole numbers.
        sizes = [tensor.shape[0] for tensor in self.tensors.values() if tensor.dim()]
        return sorted({size for size in sizes if isinstance(size, int)})

    @property
    def refusal(self) -> str:
        """The message where the program cannot be changed to take any batch."""
        hint = f"dynamic_shapes={{'{next(iter(self.tensors))}': {{0: torch.export.Dim.AUTO}}}}"
        return fixed_batch(self.target, self.fixed_sizes, hint)

    def model(self, graph: fx.GraphModule) -> ProgramModel:
        """Return the model with this graph."""
        spec = self.program.call_spec.in_spec
        assert spec is not None
        return ProgramModel(
            graph,
            [_graph_input(self.target, self.program, *item) for item in self.tensors.items()],
            [any_batch_note(self.target, size) for size in self.fixed_sizes],
            arguments=spec,
            constants={
                place: value
                for place, value in enumerate(self.arguments.values())
                if not isinstance(value, torch.Tensor)
            },
        )


# Reading ------------------------------------------------------------------------------------------


def _load(target: str) -> ExportedProgram:
    try:
        _check_safe(target)
        return torch.export.load(target)
    except UsageError:
        raise
    # A damaged file, or one of another version, may raise any error.
    except Exception as error:
        raise UsageError(
            f"MODEL {target}: torch {torch.__version__} cannot load this exported program, which is damaged "
            f"or of another version: {one_line(error)}; export it anew"
        ) from error


def _check_safe(target: str) -> None:
    """Raise ``UsageError`` for a file whose loading could run code.

    torch loads compiled code in the archive, reads pickles in it without a limit to tensors, and reads
    expressions for sizes as Python.
    """
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        # Of two files of a name torch might read the other one.
        is_clear = len(set(names)) == len(names) and len({name.partition("/")[0] for name in names}) == 1
        is_old = "serialized_exported_program.json" in names
        if not (is_clear or is_old) or any("aotinductor" in name for name in names):
            raise _unsafe(target)
        for name in names:
            if name.endswith((".pt", ".pth")):
                _check_pickle(target, archive.read(name))
            elif name.endswith(".json"):
                content = json.loads(archive.read(name))
                for payload in _pickled_payloads(target, content):
                    _check_pickle(target, archive.read(f"{name.rpartition('/')[0]}/{payload}"))
                if any(not _is_safe(text) for text in _expressions(content)):
                    raise _unsafe(target)


def _check_pickle(target: str, data: bytes) -> None:
    if not data:
        return
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unsafe(target) from error


def _unsafe(target: str) -> UsageError:
    return UsageError(
        f"MODEL {target} holds more than a graph and tensors, and loading it could run code; {WAY_OUT}"
    )


def _pickled_payloads(target: str, content: Any) -> Iterator[str]:
    """Yield the names of files with pickles that a table of weights or constants names.

    Raises ``UsageError`` where it names anything but tensors, such as objects of other types.
    """
    for entry in _mappings(content):
        if isinstance(name := entry.get("path_name"), str):
            if not name.startswith(TENSORS):
                raise _unsafe(target)
            if entry.get("use_pickle"):
                yield name


def _expressions(content: Any) -> Iterator[str]:
    for entry in _mappings(content):
        if isinstance(text := entry.get("expr_str"), str):
            yield text


def _is_safe(expression: str) -> bool:
    """Whether an expression is made of numbers, symbols, and calls of what sympy has by plain names."""
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return (
        all(isinstance(node, EXPRESSION) for node in nodes)
        and all(name[0].isupper() and not hasattr(builtins, name) for name in names)
        # Names of symbols: any other text would be an expression again.
        and all(re.fullmatch(r"[A-Za-z]\w*", text) for text in texts)
    )


def _mappings(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all mappings in JSON."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _module(program: ExportedProgram) -> fx.GraphModule:
    """Return the program as a module that does not check the sizes of its inputs."""
    takes = inspect.signature(program.module).parameters
    module = program.module(check_guards=False) if "check_guards" in takes else program.module()
    assert isinstance(module, fx.GraphModule)
    # It checks the sizes, with or without the argument.
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()
    return module


# Checking -----------------------------------------------------------------------------------------


def _check_graph(target: str, program: ExportedProgram) -> None:
    """Raise ``UsageError`` for a network that is in training mode, or that is quantized already."""
    for node in program.graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        if node.target.namespace in NAMESPACES:
            raise UsageError(
                f"MODEL {target} is quantized already (it has {node.target}): give the model in float32"
            )
        if any(value is True for name, value in _named_arguments(node) if name in TRAINING):
            raise UsageError(
                f"MODEL {target} was exported in training mode ({node.name}): call eval() and export it anew"
            )


def _named_arguments(node: fx.Node) -> Iterator[tuple[str, Any]]:
    assert isinstance(node.target, torch._ops.OpOverload)
    names = (argument.name for argument in node.target._schema.arguments)
    yield from zip(names, node.args, strict=False)
    yield from node.kwargs.items()


def _arguments(target: str, program: ExportedProgram) -> dict[str, Any]:
    """Return the arguments of the program by name: tensors without values, or constants.

    Raises ``UsageError`` for an argument that is neither.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    arguments: dict[str, Any] = {}
    for entry in program.graph_signature.input_specs:
        if entry.kind is not InputKind.USER_INPUT:
            continue
        if isinstance(entry.arg, ConstantArgument):
            arguments[entry.arg.name] = entry.arg.value
        elif isinstance(entry.arg, TensorArgument) and isinstance(values[entry.arg.name], torch.Tensor):
            arguments[entry.arg.name] = values[entry.arg.name]
        else:
            raise UsageError(f"MODEL {target}: the argument {entry.arg.name!r} is no tensor; {WAY_OUT}")
    if not any(isinstance(value, torch.Tensor) for value in arguments.values()):
        raise UsageError(f"MODEL {target} takes no tensor")
    return arguments


def _graph_input(target: str, program: ExportedProgram, name: str, value: torch.Tensor) -> GraphInput:
    dtype = str(value.dtype).removeprefix("torch.")
    check_input(target, name, dtype, value.dim())
    shape = tuple(size if isinstance(size, int) else None for size in value.shape[1:])
    return GraphInput(name, dtype, shape, _extent(program, name, value))


def _extent(program: ExportedProgram, name: str, value: torch.Tensor) -> tuple[int, int] | None:
    """Return the range of whole numbers in the example that the program was exported with, if it has it."""
    if value.is_floating_point() or value.dtype == torch.bool or program.example_inputs is None:
        return None
    leaves = pytree.tree_leaves(program.example_inputs)
    names = list(_names(program))
    if len(leaves) != len(names) or not isinstance(example := leaves[names.index(name)], torch.Tensor):
        return None
    return (int(example.min()), int(example.max())) if example.numel() else None


def _names(program: ExportedProgram) -> Iterator[str]:
    for entry in program.graph_signature.input_specs:
        if entry.kind is InputKind.USER_INPUT:
            yield entry.arg.name


# Batch sizes --------------------------------------------------------------------------------------


def _runner(model: ProgramModel) -> Run:
    def run(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            leaves = pytree.tree_leaves(model(*map(torch.from_numpy, arrays)))
        return tuple(leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor))

    return run


def _states(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the first states ``[layers, batch, ...]`` of the recurrent layers of a graph."""
    states: list[fx.Node] = []
    for node in graph.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and _operator(node) in RECURRENT:
            value = node.args[1]
            values = value if isinstance(value, (list, tuple)) else (value,)
            states += [state for state in values if isinstance(state, fx.Node)]
    return states


def _operator(node: fx.Node) -> str:
    assert isinstance(node.target, torch._ops.OpOverload)
    return str(node.target.overloadpacket.__name__)


def _read_sizes(graph: fx.GraphModule, size: int) -> fx.GraphModule | None:
    """Read the sizes of shapes that are the batch's off the input, in place; None if that is not possible.

    It is the first size of a shape, and the second one of the first states ``[layers, batch, ...]`` of
    recurrent layers.
    """
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder" and _is_tensor(node)]
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    with graph.graph.inserting_after(last):
        batch = graph.graph.call_function(torch.ops.aten.sym_size.int, (inputs[0], 0))
    dependent, states = set(inputs), _states(graph)
    for node in graph.graph.nodes:
        if not set(node.all_input_nodes).isdisjoint(dependent):
            dependent.add(node)
        if not isinstance(node.target, torch._ops.OpOverload) or node is batch or not _is_tensor(node):
            continue
        # A parameter keeps its shape, unless it is repeated for each item.
        is_reshaped = "view" in str(node.target) or "reshape" in str(node.target)
        if node in states or (is_reshaped and node not in dependent):
            continue
        _replace_size(node, size, batch)
    if not all(_replace_size(state, size, batch, 1) for state in states):
        return None
    graph.graph.lint()
    graph.recompile()
    return graph


def _replace_size(node: fx.Node, size: int, batch: fx.Node, index: int = 0) -> bool:
    """Replace a number of a shape where it is the size of the batch. Returns whether that is done."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema.arguments
    for place, (argument, value) in enumerate(zip(schema, node.args, strict=False)):
        if argument.name not in SIZES or not isinstance(value, (list, tuple)) or len(value) <= index:
            continue
        if value[index] is batch:
            return True
        if value[index] == size:
            node.update_arg(place, [*value[:index], batch, *value[index + 1 :]])
            return True
    return False


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)
