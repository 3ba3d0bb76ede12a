"""Read the weights in ``.pte``: those in graphs delegated to XNNPACK, and those of portable operators."""

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

from qx import Artifact, StoredWeight, Weights
from qx_plugins.recipes.weights import is_elementwise, is_matrix, matching_kernels

#: Bits in the names of XNNPACK's types: ``xnn_datatype_qcint8`` has 8, ``xnn_datatype_fp32`` 32.
DIGITS = re.compile(r"\d+")
#: Kernels of XNNPACK that multiply by weights, and portable operators that multiply by or look up weights.
FILTERED = {"FullyConnected", "Conv2d", "DepthwiseConv2d", "ConvTranspose2d", "BatchMatrixMultiply"}
WEIGHTED = {
    *("addmm", "bmm", "mm", "matmul", "linear", "convolution", "embedding", "lstm", "gru", "einsum"),
    *("embedding_byte", "embedding_4bit", "_weight_int8pack_mm"),
}
#: Types of constants that are indices or masks, not weights.
INDICES = ("int", "long", "bool", "short")
#: Kernels with weights of 8 bits or fewer: their name and XNNPACK's type.
NARROW = re.compile(r" q\w*int[48]$")
NOT_FINITE = re.compile(r"(?<=: )-?(inf|nan)\b")


def read(artifact: Artifact) -> Weights:
    """Return the constants of two or more dimensions, except those that are combined element by element.

    A constant of an operator that is unknown here is counted, and named with the operator.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.exir.schema import Tensor

    program = deserialize_pte_binary((artifact.folder / artifact.files[0]).read_bytes()).program
    layers: dict[str, StoredWeight] = {}
    kernels: Counter[str] = Counter()
    other_elements = 0
    for plan in program.execution_plan:
        users = _users(plan)
        for index, value in enumerate(plan.values):
            tensor = value.val
            if not isinstance(tensor, Tensor) or not tensor.data_buffer_idx or not is_matrix(tensor.sizes):
                continue
            kind, operators = tensor.scalar_type.name.lower(), users.get(index, set())
            if kind in INDICES or (operators and all(map(is_elementwise, operators))):
                other_elements += 0 if kind in INDICES else prod(tensor.sizes)
                continue
            unknown = ", ".join(sorted(operators - WEIGHTED))
            layers[f"{plan.name}.{index}"] = StoredWeight(
                elements=prod(tensor.sizes), bits=_portable_bits(kind), type=kind, operator=unknown
            )
        for number, delegate in enumerate(plan.delegates):
            if delegate.id != "XnnpackBackend":
                continue
            payload = bytes(program.backend_delegate_data[delegate.processed.index].data)
            counted: set[int] = set()
            for name, kernel, tensor in _constants(_graph(payload)):
                kind, elements = tensor["datatype"].removeprefix("xnn_datatype_"), prod(tensor["dims"])
                weighted = not is_elementwise(kernel.rstrip("2345").removesuffix("enate"))
                if weighted:
                    kernels[f"{kernel} {kind}"] += 1
                # A layer that is called twice has two nodes and one filter.
                if tensor["constant_buffer_idx"] in counted:
                    continue
                counted.add(tensor["constant_buffer_idx"])
                if not weighted:
                    other_elements += elements
                    continue
                unknown = "" if kernel in FILTERED else kernel
                layers[f"{plan.name}.delegate_{number}.{name}"] = StoredWeight(
                    elements=elements, bits=_bits(kind), type=kind, operator=unknown
                )
    return Weights(
        layers=layers,
        kernels=dict(kernels),
        narrow_kernels=matching_kernels(kernels, NARROW),
        other_elements=other_elements,
        engine="ExecuTorch, with XNNPACK",
    )


def _users(plan: Any) -> dict[int, set[str]]:
    """Return the portable operators that take each value, by its index: ``embedding``, ``add``."""
    from executorch.exir.schema import KernelCall

    users: dict[int, set[str]] = {}
    for chain in plan.chains:
        for instruction in chain.instructions:
            call = instruction.instr_args
            if isinstance(call, KernelCall):
                name = plan.operators[call.op_index].name.partition("::")[2]
                for index in call.args:
                    users.setdefault(index, set()).add(name)
    return users


def _graph(payload: bytes) -> dict[str, Any]:
    """Decode XNNPACK's serialized graph into the fields of its schema."""
    from executorch.backends.xnnpack import serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    with tempfile.TemporaryDirectory(prefix="qx-") as name:
        folder = Path(name)
        (folder / "graph.bin").write_bytes(payload[start : start + header.flatbuffer_size])
        (folder / "schema.fbs").write_bytes(files(serialization).joinpath("schema.fbs").read_bytes())
        # Without --raw-binary flatc rejects files with the identifier of another version.
        _flatc_decompile(str(folder), str(folder / "schema.fbs"), str(folder / "graph.bin"), ["--raw-binary"])
        # flatc writes infinite bounds as inf, which is not JSON.
        text = NOT_FINITE.sub("null", (folder / "graph.json").read_text(encoding="utf-8"))
    graph: dict[str, Any] = json.loads(text)
    return graph


def _constants(graph: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield node, kernel and tensor of each constant that is a filter or has two or more dimensions."""
    tensors = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"]
        tensor = tensor.get("tensor_value", tensor)
        tensors[tensor["id_out"]] = tensor
    for index, node in enumerate(graph["xnodes"]):
        kernel = node["xnode_union_type"].removeprefix("XNN").lstrip("_")
        for field, value_id in node["xnode_union"].items():
            tensor = tensors.get(value_id) if field.endswith("_id") and field != "output_id" else None
            if tensor is None or not tensor["constant_buffer_idx"]:
                continue
            if field == "filter_id" or is_matrix(tensor["dims"]):
                yield f"{index}", kernel, tensor


def _bits(kind: str) -> int:
    return int(DIGITS.findall(kind)[-1])


def _portable_bits(kind: str) -> int:
    """Return the bits of one of torch's scalar types by name."""
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
