"""``.pte``: what is delegated to XNNPACK, from its own serialized graph, and the constants of what is not."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from qx_plugins.readers import Weights, layer

#: Bits of XNNPACK's types: ``xnn_datatype_qcint8`` has 8, ``xnn_datatype_fp32`` 32.
DIGITS = re.compile(r"\d+")
NOT_FINITE = re.compile(r"(?<=: )-?(inf|nan)\b")


def read(path: Path, details: Mapping[str, Any]) -> Weights:
    """The filters of convolutions and linear layers, and other constants of two or more dimensions."""
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.exir.schema import Tensor

    program = deserialize_pte_binary(path.read_bytes()).program
    layers: dict[str, dict[str, Any]] = {}
    kernels: Counter[str] = Counter()
    for plan in program.execution_plan:
        for index, value in enumerate(plan.values):
            tensor = value.val
            if isinstance(tensor, Tensor) and tensor.data_buffer_idx and len(tensor.sizes) >= 2:
                kind = tensor.scalar_type.name.lower()
                layers[f"{plan.name}.{index}"] = layer(prod(tensor.sizes), _portable_bits(kind), kind)
        for number, delegate in enumerate(plan.delegates):
            if delegate.id != "XnnpackBackend":
                continue
            payload = bytes(program.backend_delegate_data[delegate.processed.index].data)
            for name, kernel, tensor in _filters(_graph(payload)):
                kind = tensor["datatype"].removeprefix("xnn_datatype_")
                layers[f"{plan.name}.delegate_{number}.{name}"] = layer(
                    prod(tensor["dims"]), _bits(kind), kind
                )
                kernels[f"{kernel} {kind}"] += 1
    return Weights(layers, dict(kernels))


def _graph(payload: bytes) -> dict[str, Any]:
    """XNNPACK's graph as its schema names it."""
    from executorch.backends.xnnpack import serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    with tempfile.TemporaryDirectory(prefix="qx-") as name:
        folder = Path(name)
        (folder / "graph.bin").write_bytes(payload[start : start + header.flatbuffer_size])
        (folder / "schema.fbs").write_bytes(files(serialization).joinpath("schema.fbs").read_bytes())
        # Without --raw-binary it refuses files whose identifier is another version's.
        _flatc_decompile(str(folder), str(folder / "schema.fbs"), str(folder / "graph.bin"), ["--raw-binary"])
        # It writes bounds that are no numbers as they are, which is no JSON.
        text = NOT_FINITE.sub("null", (folder / "graph.json").read_text(encoding="utf-8"))
    graph: dict[str, Any] = json.loads(text)
    return graph


def _filters(graph: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, kernel and tensor of the filter of every node that has one."""
    tensors = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"]
        tensor = tensor.get("tensor_value", tensor)
        tensors[tensor["id_out"]] = tensor
    for index, node in enumerate(graph["xnodes"]):
        place = node["xnode_union"].get("filter_id")
        if place is not None and tensors[place]["constant_buffer_idx"]:
            kernel = node["xnode_union_type"].removeprefix("XNN").lstrip("_")
            yield f"{index}", kernel, tensors[place]


def _bits(kind: str) -> int:
    return int(DIGITS.findall(kind)[-1])


def _portable_bits(kind: str) -> int:
    """Bits of torch's scalar types by name."""
    named = {
        "byte": 8,
        "char": 8,
        "bool": 8,
        "short": 16,
        "half": 16,
        "bfloat16": 16,
        "long": 64,
        "double": 64,
    }
    return named.get(kind, 8 if kind.startswith("q") and "32" not in kind else 32)
