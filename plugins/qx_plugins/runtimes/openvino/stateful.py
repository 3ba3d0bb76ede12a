"""Decoders whose cache is state within OpenVINO's graph, as they are deployed, and their serving.

It imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx_plugins.language_outputs import DECODE, PREFILL
from qx_plugins.runtimes.openvino.decoding import OpenVinoDecoderSubject

if TYPE_CHECKING:
    import openvino

    from qx import Arrays

#: Inputs of a decoder's graph before its cache, and outputs before it: tokens and positions; scores.
INPUTS, OUTPUTS = 2, 1


def make_stateful(model: openvino.Model) -> openvino.Model:
    """Make the cache of a decoder's graph its state, in place, and return the graph.

    Without a state that was set it is empty, for as many texts as there are tokens of.
    """
    import numpy
    from openvino import opset13
    from openvino._offline_transformations import apply_make_stateful_transformation

    pairs = {}
    for number, (past, present) in enumerate(
        zip(model.inputs[INPUTS:], model.outputs[OUTPUTS:], strict=True)
    ):
        names = f"past.{number}", f"present.{number}"
        past.get_tensor().set_names({names[0]})
        present.get_tensor().set_names({names[1]})
        pairs[names[0]] = names[1]
    tokens = model.inputs[0]
    apply_make_stateful_transformation(model, pairs)
    first, axis = (opset13.constant(value) for value in (numpy.array([0]), numpy.int64(0)))
    batch = opset13.gather(opset13.shape_of(tokens, "i64"), first, axis)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ReadValue":
            shape = node.get_output_partial_shape(0)
            rest = numpy.array([shape[1].get_length(), 0, shape[3].get_length()])
            whole = opset13.concat([batch, opset13.constant(rest)], axis=0)
            node.set_arguments([opset13.broadcast(opset13.constant(numpy.float32(0)), whole)])
    model.validate_nodes_and_infer_types()
    return model


class StatefulDecoderSubject(OpenVinoDecoderSubject):
    """A request that keeps the cache: empty before a text, and that of a context before a token."""

    def __init__(self, path: Path, threads: int, details: Mapping[str, Any]) -> None:
        super().__init__(path, threads, details)
        self._states = self._request.query_state()

    def copy(self, value: Any) -> Any:
        """Return a copy of a tensor in memory of its own, of whatever type its numbers are."""
        import openvino

        copied = openvino.Tensor(value.element_type, value.shape)
        value.copy_to(copied)
        return copied

    def size(self, value: Any) -> int:
        """Return the bytes of a tensor."""
        return int(value.byte_size)

    def prepare(self, arrays: Arrays) -> Mapping[str, Any]:
        """Return the inputs of each kind of call, without a cache."""
        native = super().prepare(arrays)
        return {name: value if name == "tokens" else value[:INPUTS] for name, value in native.items()}

    def reset(self, native: Mapping[str, Any], kind: str) -> None:
        """Set the state that a call begins from: that of the context, which is read once for an input."""
        if kind != DECODE:
            self._request.reset_state()
            return
        if self._read_from is not native:
            self._request.reset_state()
            self.run(native["context"])
            self._context = [self.copy(state.state) for state in self._states]
            self._read_from = native
        for state, value in zip(self._states, self._context, strict=True):
            state.state = value

    def continue_from(self, outputs: Sequence[Any], native: Mapping[str, Any]) -> None:
        """Take the state that a call has left as the context of the token that ends an input."""
        del outputs  # they have no cache
        self._context = [self.copy(state.state) for state in self._states]
        self._read_from = native

    def call(self, native: Mapping[str, Any]) -> Any:
        """Read a text from the beginning, and return its tokens with the scores after each."""
        self._request.reset_state()
        return super().call(native)

    def prefill(self, native: Mapping[str, Any]) -> Any:
        """Read a prompt from the beginning."""
        self._request.reset_state()
        return self.run(native[PREFILL])

    def decode(self, native: Mapping[str, Any]) -> Any:
        """Read one token after those in the state."""
        return self.run(native[DECODE])


def is_stateful(details: Mapping[str, Any]) -> bool:
    """Return whether the cache of a decoder's artifact is state of its graph."""
    return bool(details["decoder"].get("state"))
