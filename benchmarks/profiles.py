"""How much of a call is in the operators that the profilers of the runtimes name, on ``resnet18``?

The network has random weights, and images of 224 x 224 at batch 1, on one thread. For each runtime: the
share of the watched call that is in operators, the call as it is, and the call while it is watched.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import keep
from qx.cli.display import Lines
from qx.host.host import Host
from qx.report import profiles as report
from qx.runner.profiling import profile
from qx.runner.request import Request

CONFIGS = (
    *("fp32_baseline", "inductor_fp32", "inductor_int8", "onnxruntime_fp32"),
    *("onnxruntime_static_int8_per_channel", "openvino_fp32", "openvino_int8"),
    *("executorch_fp32", "executorch_int8", "ncnn_fp32"),
)
#: The share that is aimed at for torch, Inductor, ONNX Runtime and OpenVINO.
AIM = 0.9
MODEL = """
import torch
import torchvision

def make_model():
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None)

def example_inputs(batch_size):
    return torch.randn(batch_size, 3, 224, 224)
"""


def main() -> None:
    """Profile every config, and keep and print the shares."""
    shares: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet18.py"
        file.write_text(MODEL, encoding="utf-8")
        request = Request(models=(str(file),), configs=list(CONFIGS))
        profiles = profile(Host.discover(), request, CONFIGS, 1, Lines())
    for config in profiles.configs:
        answer = config.answer
        if answer is None or answer.refusal:
            shares[config.row] = {"reason": config.failure if answer is None else answer.refusal}
            continue
        kinds = report.shares(answer, lambda row: "converts" if row.converts else row.precision)
        shares[config.row] = {
            "in operators": round(report.accounted(answer), 3),
            "converting": round(kinds["converts"].share, 3) if "converts" in kinds else 0.0,
            "call, ms": round(1e3 * answer.seconds, 3),
            "watched call, ms": round(1e3 * answer.profiled_seconds, 3),
        }
    keep("profiles", {"aim": AIM, "configs": shares})


if __name__ == "__main__":
    main()
