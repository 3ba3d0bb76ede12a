"""Serves ncnn models on the CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx import Artifact, Context, Loader, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qx.records import Arrays


@hookimpl
def describe() -> Loader:
    return Loader(
        name="ncnn",
        summary="ncnn on the CPU, without torch; the items of a batch one after another.",
        imports=("numpy", "ncnn"),
        requires=("ncnn>=1.0.20250503",),
        extra="ncnn",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> NcnnSubject:
    layers, weights = (artifact.folder / file for file in artifact.files)
    return NcnnSubject(layers, weights, artifact.details["item"], context.threads)


class NcnnSubject:
    """A loaded network, given one item after another. ``item`` is the shape of what it answers to one."""

    def __init__(self, layers: Path, weights: Path, item: Sequence[int], threads: int) -> None:
        import ncnn

        self._mat = ncnn.Mat
        self._item = tuple(item)
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        # Else a CPU that has them would compute in fewer bits than the config says.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        for load, path in ((self._net.load_param, layers), (self._net.load_model, weights)):
            if load(str(path)) != 0:
                raise RuntimeError(f"ncnn cannot read {path.name}")
        self._inputs = self._net.input_names()
        (self._output, *_) = self._net.output_names()

    def prepare(self, arrays: Arrays) -> list[list[Any]]:
        """For each item its inputs, in memory of ncnn's own."""
        import numpy

        # It knows no integers of 64 bits.
        given = [
            array.astype(numpy.int32 if array.dtype.kind in "iu" else numpy.float32)
            for array in arrays.values()
        ]
        count = len(given[0])
        return [[self._mat(numpy.atleast_1d(one[index])).clone() for one in given] for index in range(count)]

    def call(self, native: list[list[Any]]) -> list[Any]:
        return [self._answer(item) for item in native]

    def _answer(self, item: list[Any]) -> Any:
        extractor = self._net.create_extractor()
        for name, mat in zip(self._inputs, item, strict=True):
            extractor.input(name, mat)
        code, answer = extractor.extract(self._output)
        if code != 0:
            raise RuntimeError(f"ncnn ended with {code}")
        return answer

    def outputs(self, native: list[Any]) -> Any:
        import numpy

        return numpy.stack([numpy.array(one).reshape(self._item) for one in native])
