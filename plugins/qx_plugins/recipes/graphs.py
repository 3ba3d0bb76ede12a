"""Models that a file holds as a graph of operators, without the Python source that they were made from.

They are modules like any other to the configs that run or export a model. Such a model has no layers that
could be replaced, and an ONNX model runs outside of torch, so that nothing can trace it. It imports torch:
import it inside functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from attrs import frozen
from torch import fx, nn
from torch.utils import _pytree as pytree

from qx import Artifact, ModelFacts, Unsupported

Model = TypeVar("Model", bound="GraphModel")

#: The way out where a config needs the layers of the model.
WAY_OUT = "give its Python module, as FILE.py or FILE.py:FACTORY"
#: Largest size of a serialized ONNX model, in bytes: protobuf's own limit.
MOST_BYTES = (1 << 31) - 1


@frozen
class GraphInput:
    """An input of a graph, as one item has it."""

    name: str
    #: Name of the numpy type.
    dtype: str
    #: Shape without the batch; None for each size that the graph leaves open.
    shape: tuple[int | None, ...]
    #: Smallest and largest value of whole numbers; None where the file does not say it.
    extent: tuple[int, int] | None = None


class GraphModel(nn.Module):
    """A model as a graph of operators, in inference mode only. It takes its inputs one after another."""

    #: What it is, in words for messages.
    form: ClassVar[str] = "a graph"

    def __init__(self, inputs: Sequence[GraphInput], notes: Sequence[str]) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        #: What was changed of the graph in the file, in sentences for readers.
        self.notes = tuple(notes)
        #: The file that it was read from; None for one that was not.
        self.file: Path | None = None

    @property
    def qx_facts(self) -> ModelFacts:
        """What qx asks of a model: the weights are those that its owner ships, and the file decides it."""
        if self.file is None:
            return ModelFacts(trained=True)
        return ModelFacts(trained=True, identity=hashlib.sha256(self.file.read_bytes()).hexdigest())

    def train(self: Model, mode: bool = True) -> Model:  # noqa: ARG002
        """Return the model unchanged: its graph is that of inference."""
        self.training = False
        return self

    def save_artifact(self, folder: Path) -> Artifact | None:  # noqa: ARG002
        """Write the model as it is served outside of torch; None where torch itself serves it."""
        return None


class ProgramModel(GraphModel):
    """The program of ``torch.export`` in a ``.pt2`` file."""

    form: ClassVar[str] = "an exported program (.pt2)"

    def __init__(
        self,
        graph: fx.GraphModule,
        inputs: Sequence[GraphInput],
        notes: Sequence[str] = (),
        *,
        arguments: pytree.TreeSpec,
        constants: Mapping[int, object],
    ) -> None:
        """Wrap a graph.

        ``arguments`` is the structure of its positional and keyword arguments, and ``constants`` are those
        of them that are no tensors, by their positions among all.
        """
        super().__init__(inputs, notes)
        # Not "graph": programs that torch exports of a module are stored in a class with that attribute.
        self.body = graph
        self._arguments = arguments
        self._constants = dict(constants)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return what the exported module returned, in its structure."""
        tensors = iter(inputs)
        count = len(self.inputs) + len(self._constants)
        flat = [
            self._constants[place] if place in self._constants else next(tensors) for place in range(count)
        ]
        positional, named = pytree.tree_unflatten(flat, self._arguments)
        return self.body(*positional, **named)

    def operators(self) -> set[str]:
        """Return the names of the operators of the graph, such as ``linear``."""
        targets = (node.target for node in self.body.graph.nodes if node.op == "call_function")
        return {target.__name__.partition(".")[0] for target in targets if callable(target)}


class OnnxModel(GraphModel):
    """An ONNX model, which ONNX Runtime runs. Its weights are parameters, so that they can be counted."""

    form: ClassVar[str] = "an ONNX model"

    def __init__(self, proto: Any, inputs: Sequence[GraphInput], notes: Sequence[str] = ()) -> None:
        """Wrap an ``onnx.ModelProto`` whose weights lie in it."""
        super().__init__(inputs, notes)
        self.proto = proto
        self._session: Any = None
        for constant in proto.graph.initializer:
            # No name of an attribute of modules, and no path to one.
            name = f"constant/{constant.name.replace('.', '/')}"
            tensor = _to_tensor(constant)
            if tensor is not None and tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            elif tensor is not None:
                self.register_buffer(name, tensor)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the output, or several by name.

        Raises ``Unsupported`` where the model is traced or exported.
        """
        if not all(type(tensor) is torch.Tensor for tensor in inputs):
            raise Unsupported(f"{self.form} runs in ONNX Runtime, where torch cannot follow it; {WAY_OUT}")
        if self._session is None:
            self._session = open_session(self.proto)
        names = [entry.name for entry in self._session.get_inputs()]
        arrays = (tensor.detach().contiguous().numpy() for tensor in inputs)
        answers = self._session.run(None, dict(zip(names, arrays, strict=True)))
        outputs = [torch.from_numpy(answer) for answer in answers]
        if len(outputs) == 1:
            return outputs[0]
        return dict(zip((entry.name for entry in self._session.get_outputs()), outputs, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which opens a session of its own."""
        return {**self.__dict__, "_session": None}

    def save_artifact(self, folder: Path) -> Artifact:
        """Write the graph as it is, for ONNX Runtime."""
        name = "model.onnx"
        self.write(folder / name)
        return Artifact(folder=folder, loader="onnxruntime", files=[name], notes=list(self.notes))

    def write(self, path: Path) -> None:
        """Write the model into one file."""
        path.write_bytes(self.proto.SerializeToString())

    def operators(self) -> set[str]:
        """Return the types of the operators of the graph, such as ``MatMul``."""
        return {node.op_type for node in self.proto.graph.node}


def _to_tensor(constant: Any) -> torch.Tensor | None:
    """Return the values of a constant; None where torch has no such type."""
    from onnx import numpy_helper

    try:
        return torch.from_numpy(numpy_helper.to_array(constant).copy())
    except TypeError:
        return None


def open_session(proto: Any) -> Any:
    """Return an ONNX Runtime session for an ``onnx.ModelProto``, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def check_not_onnx(model: nn.Module) -> None:
    """Raise ``Unsupported`` for an ONNX model, in a config that starts from a PyTorch model."""
    if isinstance(model, OnnxModel):
        raise Unsupported(
            f"the model is {model.form}, and this config starts from a module of torch; {WAY_OUT}"
        )


def check_layers(model: nn.Module) -> None:
    """Raise ``Unsupported`` for a model without layers, in a config that replaces layers."""
    check_not_onnx(model)
    if isinstance(model, GraphModel):
        raise Unsupported(
            f"the model is {model.form}, which has no layers, and this config replaces layers; {WAY_OUT}"
        )


def check_not_a_graph(model: nn.Module) -> None:
    """Raise ``Unsupported`` for a graph from a file, in a config that trains: it is a graph of inference."""
    if isinstance(model, GraphModel):
        raise Unsupported(
            f"the model is {model.form}, a graph of inference, and this config fine-tunes; {WAY_OUT}"
        )
