"""The notebooks in ``examples/`` run as they are, and a run shows one live line in a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
#: Libraries that a kernel, frames and plots need; the extra ``test`` installs them.
NEEDED = ("ipykernel", "matplotlib", "nbclient", "nbformat", "pandas")
#: Largest notebook with its outputs, in bytes.
MOST_BYTES = 150_000


def execute(cells: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run cells of a notebook in a kernel of their own, in a folder; return all outputs."""
    for name in NEEDED:
        pytest.importorskip(name, reason="the extra test installs what notebooks need")
    from nbclient import NotebookClient
    from nbformat.v4 import new_notebook

    # Debuggers warn of modules that Python froze, on the error stream of the kernel.
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = new_notebook(cells=cells)
    resources = {"metadata": {"path": str(place)}}
    NotebookClient(notebook, timeout=580, kernel_name="python3", resources=resources).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def cells_of(name: str) -> Any:
    """Return the cells of a notebook in ``examples/``, without their outputs."""
    nbformat = pytest.importorskip("nbformat", reason="the extra test installs what notebooks need")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return notebook.cells


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_results_are_read_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook on the committed results runs, and gives a table, frames and two plots."""
    outputs = execute(cells_of("reading_results.ipynb"), EXAMPLES, monkeypatch)
    data = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in kinds for kinds in data) == 2
    assert sum("text/html" in kinds for kinds in data) == 4
    assert data[0]["text/html"].startswith('<div class="qx-result">')


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_first_run_in_a_notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The notebook with a model of its own runs, every config is ok, and one output shows the progress."""
    outputs = execute(cells_of("first_run.ipynb"), tmp_path, monkeypatch)
    shown = [output for output in outputs if output["output_type"] == "display_data"]
    assert len(shown) == 1
    assert shown[0]["data"]["text/plain"].splitlines()[-1].startswith("qx: ended after ")
    (table,) = (
        output["data"]["text/html"]
        for output in outputs
        if output["output_type"] == "execute_result" and "qx-result" in output["data"].get("text/html", "")
    )
    assert all(name in table for name in ("fp32_baseline", "dynamic_int8", "bf16", "fx_static_int8"))
    assert not any(word in table for word in ("failed", "unsupported", "crashed"))


@pytest.mark.parametrize("name", ["first_run.ipynb", "reading_results.ipynb"])
def test_notebooks_are_small_and_have_the_outputs_of_a_whole_run(name: str) -> None:
    """A committed notebook has the output of every cell that shows something, and none is an error."""
    nbformat = pytest.importorskip("nbformat", reason="the extra test installs what notebooks need")
    assert (EXAMPLES / name).stat().st_size < MOST_BYTES
    codes = [cell for cell in nbformat.read(EXAMPLES / name, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
    outputs = [output for cell in codes for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
