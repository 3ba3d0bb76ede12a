"""Read the weights in ``.pt2``, a package of AOTInductor: its generated C++ lists constants and kernels."""

from __future__ import annotations

import re
import zipfile
from collections import Counter, defaultdict
from math import prod

from qx import Artifact, StoredWeight, Weights
from qx_plugins.recipes.weights import matching_kernels

#: Properties of a constant in the code, a line for each.
CONSTANT = re.compile(r"constants_info_\[(\d+)\]\.(name|dtype|shape|original_fqn) = (.+?);")
#: Calls of library kernels that multiply by weights, with their arguments.
KERNEL = re.compile(
    r"CODE_CHECK\(aoti_torch_cpu_+((?:mkldnn__)?(?:q?conv\w*|convolution\w*|q?linear\w*|addmm\w*|mm_out|bmm_out|int_mm\w*"
    r"|weight_int\dpack_mm\w*))\((.+)"
)
#: Bits of each type, by its name in the code.
BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "uint8": 8}
#: Kernel whose weights are packed, two in a byte.
PACKED = "weight_int4pack_mm"
#: Kernels that multiply by weights of 8 bits or fewer.
NARROW = re.compile(r"qconv|qlinear|int_mm|weight_int")


def read(artifact: Artifact) -> Weights | None:
    """Return constants of two or more dimensions, and how often each kernel is called; None without code."""
    with zipfile.ZipFile(artifact.folder / artifact.files[0]) as archive:
        names = [name for name in archive.namelist() if name.endswith(".cpp") and "kernel" not in name]
        code = "\n".join(archive.read(name).decode("utf-8", "replace") for name in names)
    calls = KERNEL.findall(code)
    packed = " ".join(arguments for name, arguments in calls if name.startswith(PACKED))
    constants: dict[str, dict[str, str]] = defaultdict(dict)
    for index, field, value in CONSTANT.findall(code):
        constants[index][field] = value
    if not constants:
        return None
    layers = {}
    for constant in constants.values():
        kind = re.sub(r".*dtype_|\W.*", "", constant["dtype"])
        shape = [int(size) for size in re.findall(r"\d+", constant.get("shape", ""))]
        # Scales of rows come as [rows, 1].
        if len(shape) < 2 or prod(shape) == max(shape) or kind not in BITS:
            continue
        name = constant["name"].strip('"')
        if re.search(rf"\b{name}\b", packed) and kind == "uint8":
            layers[name] = StoredWeight(elements=2 * prod(shape), bits=4, type="int4")
        elif not re.search(rf"\b{name}\b", packed):
            layers[name] = StoredWeight(elements=prod(shape), bits=BITS[kind], type=kind)
    kernels = Counter(name for name, _ in calls)
    return Weights(
        layers=layers,
        kernels=dict(kernels),
        narrow_kernels=matching_kernels(kernels, NARROW),
        engine="Inductor, with oneDNN",
    )
