"""Data in files: arrays, functions and folders become splits, mistakes are named, no item is in both."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qx_plugins.datasets.data_files import load_calibration, load_file
from qx_plugins.datasets.fitted_images import load_fitted
from qx_plugins.workloads import own_model

from qx import LABELS, Context, Data, DataError, QxError, UsageError
from qx.worker.arrays import Split
from qx.worker.data import _drawn as drawn

X, Y = np.arange(2000.0).reshape(1000, 2), np.arange(1000) % 4
NUMBERS = count()
DEFAULTS = {option.name: option.default for option in own_model.describe().options}


def new_file(suffix: str) -> Path:
    """Return the path of a file that no other test has."""
    return Path(f"data{next(NUMBERS)}{suffix}").resolve()


def arrays(**named: Any) -> Path:
    """Write an ``.npz`` of named arrays."""
    file = new_file(".npz")
    np.savez(file, **named)
    return file


def function(source: str, name: str = ":give") -> Path:
    """Write a Python file, and return what names a function of it."""
    file = new_file(".py")
    file.write_text("import itertools\nimport numpy as np\nimport torch\n" + dedent(source))
    return Path(f"{file}{name}")


def items(data: Data) -> set[float]:
    """Return the first values of all items, which tell them apart."""
    return set(np.asarray(next(iter(data.inputs.values())))[:, 0].tolist())


def both(place: Path, **fields: Any) -> tuple[Data, Data]:
    """Return the train and the test split of a file."""
    context = Context(data=place, **fields)
    return load_file("train", context), load_file("test", context)


# Named arrays -------------------------------------------------------------------------------------


def test_arrays_are_inputs_in_the_order_of_the_file_but_for_targets() -> None:
    """``labels`` or ``targets``, ``target.NAME`` and ``classes`` are no inputs; floats become float32."""
    file = arrays(b=X, a=Y, targets=Y, classes=np.array(list("wxyz")), **{"target.boxes": X})
    train, test = both(file)
    for data in (train, test):
        assert list(data.inputs) == ["b", "a"] and data.inputs["b"].dtype == np.float32
        assert set(data.targets) == {LABELS, "boxes"} and data.targets["boxes"].dtype == np.float64
        assert data.classes == ("w", "x", "y", "z")
        assert data.source == f"{file.name}, 256 of 1,000 items set aside for calibration"
    assert list(both(arrays(x=X, labels=Y))[0].targets) == [LABELS]


def test_arrays_of_a_model_come_in_the_order_of_its_arguments() -> None:
    """Those of the file have any order, and ``--data`` takes the place of ``load_data``."""
    source = """
        class Two(torch.nn.Module):
            def forward(self, left, right):
                return left + right

        def make_model():
            return Two()

        def load_data(split):
            raise RuntimeError("not called")
    """
    options = {**DEFAULTS, "model": str(function(source, ""))}
    context = Context(options=options, data=arrays(right=X, left=X, labels=Y))
    assert list(own_model.load_data("test", context).inputs) == ["left", "right"]


def test_a_file_may_hold_both_splits() -> None:
    """Then names begin with ``train.`` and ``test.``, and nothing is set aside."""
    file = arrays(
        **{"train.x": X, "train.labels": Y, "test.x": -X[:9], "test.labels": Y[:9], "classes": list("wxyz")}
    )
    train, test = both(file)
    assert (len(train.inputs["x"]), len(test.inputs["x"])) == (1000, 9)
    assert train.source == file.name and test.classes == ("w", "x", "y", "z")
    (other,) = (load_file("test", Context(data=arrays(**{"test.x": X}))),)
    assert list(other.inputs) == ["x"] and "set aside" in other.source


class Loud:
    """Would leave a file, were it unpickled."""

    def __reduce__(self) -> Any:
        return (open, ("was_unpickled", "w"))


def damaged(change: Callable[[bytes], bytes]) -> Path:
    """Write an ``.npz`` with other bytes."""
    file = arrays(x=X, labels=Y)
    file.write_bytes(change(file.read_bytes()))
    return file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: damaged(lambda content: content[:-500]), "is damaged, or no .npz of named arrays"),
        (lambda: damaged(lambda _: b""), "is damaged, or no .npz of named arrays"),
        (lambda: damaged(lambda _: pickle.dumps(Loud())), "is damaged, or no .npz of named arrays"),
        (lambda: damaged(lambda content: content[:300] + b"????" + content[304:]), "Bad CRC-32"),
        (lambda: arrays(x=np.array([Loud()] * 3)), "Python objects, which are never unpickled"),
        (lambda: arrays(labels=Y), "has no inputs: it holds labels"),
        (lambda: arrays(x=X, labels=Y, targets=Y), "has both 'targets' and 'labels'"),
        (lambda: arrays(x=X, labels=Y[:7]), r"'labels' have shape \[7\] and the inputs 'x' \[1000, 2\]"),
        (lambda: arrays(x=np.array(["a", "b"])), "expected an array or a tensor of numbers"),
        (lambda: arrays(x=X[:0]), "gives no items"),
        (lambda: Path("nowhere.npz"), "there is no such file"),
        (lambda: Path("data.bin"), r"not taken; expected a folder .*, an .npz of named arrays, or FILE.py"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(make: Callable[[], Path], words: str) -> None:
    """One line with the file, and no pickle is ever loaded."""
    with pytest.raises(QxError, match=words) as caught:
        both(make())
    assert str(caught.value).startswith("--data ") and "\n" not in str(caught.value)
    assert not Path("was_unpickled").exists()


# Functions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "return {'x': np.ones((300, 2))}, {'labels': np.arange(300) % 3}",
        "return [(np.ones(2), index % 3) for index in range(300)]",
        "return torch.utils.data.TensorDataset(torch.ones(300, 2), torch.arange(300) % 3)",
        "return ((torch.ones(2), index % 3) for index in range(300))",
    ],
)
def test_a_function_gives_data_in_any_form(body: str) -> None:
    """With ``split`` it is asked for each; without it some items are set aside, of each class its share."""
    train, test = both(function(f"def give(split):\n    {body}"))
    assert len(train.targets[LABELS]) == len(test.targets[LABELS]) == 300
    train, test = both(function(f"def give():\n    {body}"))
    assert len(train.targets[LABELS]) == len(test.targets[LABELS]) == 150
    assert np.bincount(train.targets[LABELS]).tolist() == [50, 50, 50]
    assert "150 of 300 items set aside for calibration" in test.source


def test_a_function_is_called_once_for_items_that_come_together() -> None:
    """What it gives may differ from call to call, and no item may be in both splits."""
    place = function(
        """
        calls = []

        def load_data(context):
            calls.append(context.seed)
            assert len(calls) == 1
            return np.arange(2000.0).reshape(1000, 2)
        """,
        "",
    )
    train, test = both(place)
    assert not items(train) & items(test) and len(items(train) | items(test)) == 1000


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def other(): ...\nclass Own: ...", r"--data .*\.py has no give\(\) \(it has other, Own\)"),
        ("def give(split, rows): ...", r"give\(\) needs rows, and qx calls it with no more than split, cont"),
        ("def give(split): ...", r"give\('test'\) gives None; expected qx.Data"),
        ("def give(split): return []", r"give\('test'\) gives no items"),
        ("def give(): return iter(())", r"give\(\) gives no items"),
        (
            "def give(): return [np.ones(2), np.ones(3)]",
            r"item 1 is float32 \[3\], and of item 0 float32 \[2",
        ),
        ("give = 5", r"has no give\(\)"),
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_a_function_is_named(source: str, words: str) -> None:
    """One line with the file, the function and what it gave."""
    with pytest.raises(QxError, match=words):
        load_file("test", Context(data=function(source)))
    with pytest.raises(UsageError, match=r"--calibration-data .*nowhere.py: there is no such file"):
        load_calibration(Context(calibration_data=Path("nowhere.py:give")))


# Which items --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["split", ""])
def test_a_function_that_never_ends_is_ended(split: str) -> None:
    """After as many items as are evaluated, and as calibrate; it counts what it was asked for."""
    place = function(
        f"""
        count = itertools.count()

        def give({split}):
            return ((np.full(2, next(count)), 0) for _ in itertools.count())
        """
    )
    train, test = both(place, eval_n=100, calibration_n=64)
    assert len(items(test)) == 100 if split else len(items(test)) >= 100
    assert len(items(train)) >= 64 and not items(train) & items(test)
    assert len(items(train) | items(test)) == (1124 if split else 356)
    assert "the first " in test.source


@pytest.mark.parametrize("total", [10, 600, 5000])
@pytest.mark.parametrize("form", ["arrays", "Dataset", "items"])
def test_the_share_for_calibration_is_set_aside_before_items_are_drawn(form: str, total: int) -> None:
    """No item is both, whatever the number of evaluation items, which come from all that is left."""
    give = {
        "arrays": "return x, y",
        "Dataset": "return torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))",
        "items": "return zip(x, y)",
    }[form]
    source = f"""
        def give():
            x, y = np.arange(2.0 * {total}).reshape({total}, 2), np.arange({total}) // 3 % 3
            {give}
    """
    for eval_n in (None, 3, 400):
        train, test = both(function(source), eval_n=eval_n, calibration_n=256)
        evaluated = drawn(Split.of(test), eval_n)
        chosen = set(evaluated.inputs["input"][:, 0].tolist())
        assert len(chosen) == min(eval_n or total, len(items(test)))
        assert not items(train) & items(test) and chosen <= items(test)
        assert (evaluated.total or len(items(test))) >= len(items(test))
        assert "set aside for calibration" in test.source


def test_calibration_data_of_their_own_leave_all_others_to_be_evaluated() -> None:
    """They come in the same forms; of data that name their splits it is ``train`` that calibrates."""
    named = arrays(**{"train.x": X[:5], "test.x": X[5:]})
    for place, expected in (
        (arrays(x=X[:7]), 7),
        (function("def give(): return np.ones((9, 2))"), 9),
        (named, 5),
    ):
        context = Context(data=arrays(x=X), calibration_data=place)
        assert len(load_calibration(context).inputs.popitem()[1]) == expected
        assert len(load_file("test", context).inputs["x"]) == 1000


# Images -------------------------------------------------------------------------------------------


def images(split: str, root: Path, *, eval_n: int = 0, sets_aside: bool = True) -> Data:
    """Return a split of a tree of images."""
    return load_fitted(
        split,
        root=root,
        shape=(3, 4, 4),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        crop=1.0,
        count=eval_n if split == "test" else 0,
        cache=None,
        progress=lambda *_: None,
        sets_aside=sets_aside,
    )


@pytest.mark.parametrize("folder", ["", "test", "val"])
def test_a_tree_without_training_images_sets_some_aside(tmp_path: Path, folder: str) -> None:
    """Each class keeps its share of those that calibrate and of those that are evaluated."""
    for name, number in (("cat", 40), ("dog", 10)):
        place = tmp_path / "tree" / folder / name
        place.mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (4, 4), (index, len(name), ord(name[0]))).save(place / f"{index}.png")
    train, test = (images(split, tmp_path / "tree") for split in ("train", "test"))
    seen = [{item.tobytes() for item in np.asarray(data.inputs["image"])} for data in (train, test)]
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 50
    assert np.bincount(train.targets[LABELS]).tolist() == [20, 5]
    assert train.source == "tree, 25 of 50 items set aside for calibration"
    some = images("test", tmp_path / "tree", eval_n=10)
    assert (np.bincount(some.targets[LABELS]).tolist(), some.total) == ([8, 2], 25)
    assert images("test", tmp_path / "tree", sets_aside=False).total == 50


def test_a_tree_without_classes_or_without_test_images_is_refused(tmp_path: Path) -> None:
    """The line says what was expected."""
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="no folder 'test' or 'val'; expected"):
        images("test", tmp_path)
    (tmp_path / "empty" / "test").mkdir(parents=True)
    with pytest.raises(DataError, match="has no class folders; expected"):
        images("test", tmp_path / "empty")
