"""Serve ncnn models on the CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import Artifact, Context, Loader, Profile, ServingCode, Weights, hookimpl
from qx_plugins.runtimes.ncnn import SERVING

if TYPE_CHECKING:
    from qx import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="ncnn",
        summary="ncnn on the CPU, without torch; the items of a batch one after another.",
        imports=("numpy", "ncnn"),
        requires=SERVING,
        extra="ncnn",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> NcnnSubject:
    return NcnnSubject(artifact, context.threads)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.ncnn.weights import read

    return read(artifact)


@hookimpl
def serving_code(artifact: Artifact) -> ServingCode:
    from qx_plugins.runtimes.ncnn import serving

    return ServingCode.from_functions(
        serving.load, serving.run, details=serving.details_of(artifact), requires=SERVING
    )


@hookimpl
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile:
    from qx_plugins.runtimes.ncnn.profiling import profile_net

    subject = NcnnSubject(artifact, context.threads)
    items = subject.prepare(inputs)
    return profile_net(subject.net, subject.named(items[0]), calls, len(items))


class NcnnSubject:
    """A loaded network that serves the items of a batch one after another."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        import ncnn

        from qx_plugins.runtimes.ncnn import serving

        self._mat = ncnn.Mat
        self._inputs = [tuple(shape) for shape in artifact.details["inputs"]]
        files = [artifact.folder / file for file in artifact.files]
        self.net, self._outputs = serving.load(files, serving.details_of(artifact), threads)
        # Inputs that no layer uses are missing.
        input_names = set(self.net.input_names())
        self._used_inputs = [
            (index, name) for index in range(len(self._inputs)) if (name := f"in{index}") in input_names
        ]

    def prepare(self, arrays: Arrays) -> list[list[Any]]:
        """Return the inputs of each item, in ncnn's own memory."""
        import numpy

        values = list(arrays.values())
        for array, shape in zip(values, self._inputs, strict=True):
            if array.shape[1:] != shape:
                raise ValueError(f"ncnn's model takes items of {shape}, not {array.shape[1:]}")
        # ncnn has no integers of 64 bits, and expects contiguous memory.
        rows = [
            array.astype(numpy.int32 if array.dtype.kind in "iu" else numpy.float32, order="C")
            for array in values
        ]
        return [
            [self._mat(numpy.atleast_1d(rows[index][item])).clone() for index, _ in self._used_inputs]
            for item in range(len(rows[0]))
        ]

    def named(self, item: list[Any]) -> list[tuple[str, Any]]:
        """Return the inputs of an item with their names in the network."""
        return [(name, mat) for (_, name), mat in zip(self._used_inputs, item, strict=True)]

    def call(self, native: list[list[Any]]) -> list[Any]:
        return [self._answer(item) for item in native]

    def _answer(self, item: list[Any]) -> list[Any]:
        extractor = self.net.create_extractor()
        for name, mat in self.named(item):
            extractor.input(name, mat)
        answers = []
        for index in range(len(self._outputs)):
            code, answer = extractor.extract(f"out{index}")
            if code != 0:
                raise RuntimeError(f"ncnn failed with code {code}")
            answers.append(answer)
        return answers

    def outputs(self, native: list[Any]) -> Arrays:
        import numpy

        return {
            name: numpy.stack([numpy.array(item[index]).reshape(shape) for item in native])
            for index, (name, shape) in enumerate(self._outputs.items())
        }
