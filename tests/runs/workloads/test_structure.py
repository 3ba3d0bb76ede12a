"""A model that takes two inputs by name and returns a nested mapping is measured like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

#: Two inputs by name, outputs in a mapping that holds a tuple and what is no tensor.
PLUGIN = """
from qx import Data, Unsupported, Workload, hookimpl

@hookimpl
def describe():
    return Workload(name="pairs", summary="Two inputs by name.", random_weights=True)

@hookimpl
def make_model(context):
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.body = nn.Embedding(50, 16), nn.Linear(16, 16)
            self.head, self.box = nn.Linear(16, 4), nn.Linear(16, 3)

        def forward(self, mask, tokens, past=None):
            hidden = torch.relu(self.body(self.table(tokens))) * mask.unsqueeze(-1)
            pooled = hidden.sum(1) / mask.sum(1, keepdim=True)
            return {"logits": self.head(pooled), "extra": (self.box(pooled), hidden), "loss": None}

    if context.quantizable:
        raise Unsupported("Encoder has no stubs")
    return Encoder()

@hookimpl
def load_data(split, context):
    import numpy as np

    drawn = np.random.default_rng(split == "train")
    items = 300 if split == "train" else 40
    mask = (drawn.random((items, 8)) < 0.8).astype(np.float32)
    mask[:, 0] = 1
    return Data(inputs={"tokens": drawn.integers(0, 50, (items, 8)), "mask": mask}, source="made up")

@hookimpl
def example_inputs(batch_size, context):
    import torch

    return {INPUTS}
"""
IN_ORDER = '{"tokens": torch.ones(batch_size, 8, dtype=torch.int64), "mask": torch.ones(batch_size, 8)}'
OTHER_ORDER = '{"mask": torch.ones(batch_size, 8), "tokens": torch.ones(batch_size, 8, dtype=torch.int64)}'
CONFIGS = ("fp32_baseline", "dynamic_int8")


def _plugin(folder: Path, inputs: str) -> str:
    path = folder / "pairs.py"
    path.write_text(PLUGIN.replace("{INPUTS}", inputs), encoding="utf-8")
    return str(path)


def test_every_output_is_measured_by_its_name(qx: Any, tmp_path: Path) -> None:
    """Each config ends well, and every output is held against the baseline's under the same name."""
    options = [word for config in CONFIGS for word in ("-c", config)]
    arguments = ("-p", _plugin(tmp_path, IN_ORDER), "--workload", "pairs", "--quick", "-m", "file_size")
    done = qx("run", *arguments, *options, "--out", str(tmp_path / "results"))
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "results" / "full_results.json").read_text(encoding="utf-8"))
    assert {cell["outcome"] for cell in results["cells"].values()} == {"ok"}
    for config in CONFIGS[1:]:
        rows = [row for row in results["outputs"] if row["cell"] == f"pairs/{config}"]
        assert [row["output"] for row in rows] == ["logits", "extra.0", "extra.1"]
        assert all(row["sqnr_db"] > 15 for row in rows)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (OTHER_ORDER, "the data have the inputs tokens, mask, and the example inputs are mask, tokens"),
        ('{"words": torch.ones(batch_size, 8)}', "Encoder rejects an input of shape words [2, 8]: TypeError"),
    ],
)
def test_inputs_that_do_not_fit_are_reported_in_one_line(
    qx: Any, tmp_path: Path, inputs: str, message: str
) -> None:
    """Names that the model does not take, and another order than that of the data."""
    done = qx("run", "-p", _plugin(tmp_path, inputs), "--workload", "pairs", "--quick", "-m", "file_size")
    assert done.code == 2
    assert message in done.err
