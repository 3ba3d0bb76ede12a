"""Tables as data: what each form gives, and what a damaged one is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from qx_plugins.datasets.tables import find_columns, is_tables, read_tables

from qx import DataError


def write(name: str, text: str | bytes) -> Path:
    """Write a file, and return its path."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reviews.csv", '\ufefftext,label\r\n"good, ""so"" good\nfilm",1\r\n\r\nbad,0\r\n'),
        ("reviews.tsv", 'text\tlabel\n"good, ""so"" good\nfilm"\t1\nbad\t0'),
        (
            "reviews.jsonl",
            '{"text": "good, \\"so\\" good\\nfilm", "label": "1"}\n\n{"text": "bad", "label": "0"}',
        ),
    ],
)
def test_rows_are_read_with_their_columns_and_lines(name: str, text: str) -> None:
    """Quotes, ends of lines within a cell, empty lines and a mark of the encoding are no obstacle."""
    path = write(name, text)
    assert is_tables(path)
    table = read_tables(path)["all"]
    assert table.columns == ("text", "label")
    assert [dict(row) for row in table.rows] == [
        {"text": 'good, "so" good\nfilm', "label": "1"},
        {"text": "bad", "label": "0"},
    ]
    assert table.source == name
    assert list(table.places) == [f"{name}, line {number}" for number in _lines_of(name)]


def _lines_of(name: str) -> tuple[int, int]:
    return {"reviews.csv": (2, 5), "reviews.tsv": (2, 4), "reviews.jsonl": (1, 3)}[name]


def test_parquet_is_read_where_pyarrow_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists stay lists; a damaged file is one line, and so is a missing package."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet installs pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"tokens": [["a", "b"]], "tags": [[0, 1]]}), "words.parquet")
    assert [dict(row) for row in read_tables(Path("words.parquet"))["all"].rows] == [
        {"tokens": ["a", "b"], "tags": [0, 1]}
    ]
    with pytest.raises(DataError, match=r"broken.parquet is damaged, or no parquet file"):
        read_tables(write("broken.parquet", b"PAR1 and nothing"))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"words.parquet: reading parquet takes pyarrow: pip install"):
        read_tables(Path("words.parquet"))


def test_a_folder_has_a_table_for_each_split() -> None:
    """The test split may be called validation, and a split may lie in several files."""
    write("both/train-00000-of-00002.jsonl", '{"text": "a"}')
    write("both/train-00001-of-00002.jsonl", '{"text": "b"}')
    write("both/validation.csv", "text\nc\n")
    write("both/README.md", "hello")
    tables = read_tables(Path("both"))
    assert {split: [row["text"] for row in table.rows] for split, table in tables.items()} == {
        "train": ["a", "b"],
        "test": ["c"],
    }
    assert tables["test"].source == "both/validation.csv"
    write("one/test.csv", "text\nc\n")
    assert list(read_tables(Path("one"))) == ["all"]
    write("none/images/a.csv", "text\nc\n")
    assert not is_tables(Path("none"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "a.csv, line 1: no names of columns"),
        ("a.csv", "text\n", "a.csv has no rows"),
        ("a.csv", "text,label\ngood,1\nbad\n", "a.csv, line 3: 1 values, .* names 2 columns"),
        ("a.csv", "text,text\ngood,1\n", "line 1: two columns are called 'text'"),
        ("a.csv", 'text,label\ngood,1\n"bad,0\nworse', "a.csv, line 3: unexpected end of data"),
        ("a.csv", b"text\ngood\nb\xe4d\n", "a.csv, line 3: not UTF-8"),
        ("a.jsonl", '{"text": "good"}\n{"text": ', "a.jsonl, line 2: no JSON"),
        ("a.jsonl", '{"text": "good"}\n["bad"]', "a.jsonl, line 2: list; expected an object"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1: no JSON"),
    ],
)
def test_a_damaged_table_is_one_line_with_the_line_number(name: str, text: str | bytes, words: str) -> None:
    """The message names the file and the line."""
    with pytest.raises(DataError, match=words) as error:
        read_tables(write(name, text))
    assert "\n" not in str(error.value)


def test_columns_have_their_usual_names_or_those_of_an_option() -> None:
    """A table without them is called by what it has."""
    table = read_tables(write("a.csv", "premise,hypothesis,text,gold\na,b,c,0\n"))["all"]
    usual = (("premise", "hypothesis"), ("text",))
    assert find_columns(table, "", usual, what="texts", option="text") == ("premise", "hypothesis")
    assert find_columns(table, "text+gold", usual, what="texts", option="text") == ("text", "gold")
    assert find_columns(table, "", [("label",)], what="labels", option="label", required=False) == ()
    with pytest.raises(
        DataError, match=r"a.csv has no column 'texts'; it has premise, hypothesis, text, gold"
    ):
        find_columns(table, "texts", usual, what="texts", option="text")
    with pytest.raises(
        DataError, match=r"no column of labels \(looked for label, tags\); .* own_model.label="
    ):
        find_columns(table, "", [("label",), ("tags",)], what="labels", option="label")
