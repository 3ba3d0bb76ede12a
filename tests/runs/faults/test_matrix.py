"""Faults in every hook and phase: a few of them here, all with ``QX_SLOW=1``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qx import import_file
from qx.contract import hookspecs

PLACE = Path(__file__).with_name("matrix.py")


matrix: Any = import_file("qx_fault_matrix", PLACE)

#: One or two faults of each kind, in hooks of configs and loaders and in every phase of metrics.
FEW = [
    ("prepare_model", "raises_keyboard_interrupt"),
    ("calibrate", "exits"),
    ("convert", "raises_without_text"),
    ("load", "gives_hostile"),
    ("prepare", "segfaults"),
    ("call", "raises_base_exception"),
    ("outputs", "gives_rubbish"),
    ("measure_artifact", "segfaults"),
    ("measure_fresh", "exits"),
    ("measure_block", "raises_base_exception"),
    ("measure_predictions", "terminates_itself"),
    ("measure_derived", "kills_itself"),
    ("read_weights", "exits"),
]


def test_a_fault_costs_its_own_row_or_metric(tmp_path: Path) -> None:
    """A dozen combinations in one run leave other rows and metrics their figures, and nothing behind."""
    result = matrix.Matrix(tmp_path)
    result.cells(FEW, ["file_size"])
    assert result.complaints == []
    assert set(result.outcomes) == set(FEW)


def test_there_are_enough_combinations() -> None:
    """Every fault is tried in every hook of the contract, and in every phase of ``measure``."""
    assert len(matrix.faulty.FAULTS) >= 21
    assert len(matrix.every()) >= 250
    places = {"measure" if hook.startswith("measure_") else hook for hook in matrix.faulty.HOOKS}
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, "qx_spec")}
    # ``qx quantize --to`` alone asks for serving code, ``qx profile`` for profiles, and ``float_layers`` for
    # layers: the faults of these are in tests/runs/cli (test_serve.py, test_profile.py), and in
    # tests/runs/configs/test_float_layers.py. Those of ``qx layers`` are in
    # tests/unit/worker (test_layer_outputs.py, test_rounding.py).
    apart = {"serving_code", "profile", "layer_outputs", "quantized_layers", "rounding"}
    assert places >= hooks - apart


def test_parts_are_joined_into_one_page(tmp_path: Path) -> None:
    """The outcomes of several parts are joined, each complaint counts once, and no part is taken twice."""
    whole, parts = matrix.Matrix(tmp_path), []
    for hook, complaint in (
        ("load", f"sound_config{matrix.LOST}file_size"),
        ("train", f"{matrix.PROCESS_LEFT}train: python"),
    ):
        part = matrix.Matrix(tmp_path, {(hook, "exits"): "crashed"}, [complaint], 90.0)
        parts.append(part.to_json())
        whole.take_in(parts[-1])
    first, *_ = matrix.tables(whole).splitlines()
    assert first == (
        "2 combinations in 3 minutes. Figures of other rows or metrics that were lost: 1; processes left: 1; "
        "folders left: 0; other than expected: 0."
    )
    assert "| exits | crashed |" in matrix.tables(whole)
    with pytest.raises(ValueError, match="load__exits is in two parts"):
        whole.take_in(parts[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "hooks",
    [
        ("describe",),
        matrix.faulty.WORKLOAD_HOOKS,
        matrix.faulty.ANSWER_HOOKS,
        ("train",),
        matrix.faulty.CONFIG_HOOKS,
        matrix.faulty.LOADER_HOOKS,
        matrix.faulty.METRIC_HOOKS,
    ],
    ids=lambda hooks: hooks[0],
)
def test_every_fault_in_every_hook_costs_its_own_row_or_metric(
    tmp_path: Path, hooks: tuple[str, ...]
) -> None:
    """Only that row, or that metric, is lost, and no process and no folder is left."""
    result = matrix.Matrix(tmp_path)
    matrix.fill(result, matrix.every(hooks))
    assert result.complaints == []
