"""Tables in files: ``.csv``, ``.tsv``, ``.jsonl`` and ``.parquet``, and folders of them.

Light: torch is not imported, and pyarrow only for parquet.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from qx import DataError, one_line

#: Suffixes of tables.
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
#: Beginnings of the names of files of each split, in the order in which they are looked for.
SPLITS = {"train": ("train",), "test": ("test", "validation", "valid", "val", "dev", "eval")}
#: Longest cell of a table in characters.
LONGEST = 1 << 28
#: Most names that a message lists.
SHOWN = 20


@frozen
class Table:
    """The rows of a table, each a mapping of columns to values, and where each comes from."""

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    #: Place of each row for messages, such as ``"reviews.csv, line 2"``.
    places: Sequence[str]
    #: Name for results.
    source: str


def is_tables(place: Path) -> bool:
    """Return whether a path is a table, or a folder with tables of splits."""
    return place.suffix.lower() in SUFFIXES or (place.is_dir() and any(_files_of(place).values()))


def read_tables(place: Path) -> dict[str, Table]:
    """Return the tables of a path by split: ``train`` and ``test``, or ``all`` where there is only one.

    Raises ``DataError``.
    """
    if not place.exists():
        raise DataError(f"{place} does not exist")
    if not place.is_dir():
        return {"all": _read([place], place.name)}
    files = {split: paths for split, paths in _files_of(place).items() if paths}
    tables = {
        split: _read(paths, f"{place.resolve().name}/{paths[0].name}") for split, paths in files.items()
    }
    return tables if len(tables) == len(SPLITS) else {"all": next(iter(tables.values()))}


def _files_of(folder: Path) -> dict[str, list[Path]]:
    """Return the tables of each split in a folder. A split may lie in several files of one kind."""
    names = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    found: dict[str, list[Path]] = {}
    for split, beginnings in SPLITS.items():
        matches = [
            [path for path in names if path.stem == beginning or path.stem.startswith(f"{beginning}-")]
            for beginning in beginnings
        ]
        found[split] = next(filter(None, matches), [])
    return found


def _read(files: Sequence[Path], source: str) -> Table:
    columns: dict[str, None] = {}
    rows: list[Mapping[str, Any]] = []
    places: list[str] = []
    for file in files:
        try:
            with closing(_rows_of(file)) as rows_of_file:
                for place, row in rows_of_file:
                    columns.update(dict.fromkeys(row))
                    rows.append(row)
                    places.append(place)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror or one_line(error)}") from error
    if not rows:
        raise DataError(f"{source} has no rows")
    return Table(tuple(columns), rows, places, source)


def _rows_of(file: Path) -> Generator[tuple[str, Mapping[str, Any]], None, None]:
    """Yield place and content of each row. Raises ``DataError`` with the line where the file is damaged."""
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _rows_of_parquet(file)
    elif suffix == ".jsonl":
        yield from _rows_of_json(file)
    else:
        yield from _rows_of_csv(file, "\t" if suffix == ".tsv" else ",")


def _lines(file: Path) -> Generator[str, None, None]:
    """Yield the lines of a text file with their ends. Raises ``DataError`` for one that is not UTF-8."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{file.name}, line {number}: not UTF-8 ({error.reason})") from error


def _rows_of_csv(file: Path, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(LONGEST)
    line = 1
    try:
        with closing(_lines(file)) as lines:
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            header = _header_of(file, reader)
            line = reader.line_num + 1
            for values in reader:
                if values:
                    if len(values) != len(header):
                        raise DataError(
                            f"{file.name}, line {line}: {len(values)} values, and the first line names "
                            f"{len(header)} columns"
                        )
                    yield f"{file.name}, line {line}", dict(zip(header, values, strict=True))
                line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file.name}, line {line}: {error}") from error


def _header_of(file: Path, rows: Iterator[list[str]]) -> list[str]:
    """Return the names of columns in the first row. Raises ``DataError`` for none, and for one twice."""
    header = next(rows, None)
    if not header:
        raise DataError(f"{file.name}, line 1: no names of columns")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError(f"{file.name}, line 1: two columns are called {twice!r}")
    return header


def _rows_of_json(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with closing(_lines(file)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{file.name}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place}: no JSON ({one_line(error)})") from error
            if not isinstance(row, dict):
                raise DataError(f"{place}: {type(row).__name__}; expected an object of columns and values")
            yield place, row


def _rows_of_parquet(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{file.name}: reading parquet takes pyarrow: pip install pyarrow") from error
    try:
        rows = parquet.read_table(file).to_pylist()
    # pyarrow has errors of its own for damaged files.
    except Exception as error:
        raise DataError(f"{file.name} is damaged, or no parquet file: {one_line(error)}") from error
    for number, row in enumerate(rows):
        yield f"{file.name}, row {number}", row


def find_columns(
    table: Table, named: str, usual: Sequence[Sequence[str]], *, what: str, option: str, required: bool = True
) -> tuple[str, ...]:
    """Return the columns of a table that hold one thing: those that an option names, or the usual ones.

    ``named`` has a plus between several columns. ``usual`` are alternatives in their order. Empty where
    nothing is there and nothing is required. Raises ``DataError``.
    """
    if named:
        columns = tuple(named.split("+"))
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise DataError(f"{table.source} has no column {missing[0]!r}; it has {_shown(table)}")
        return columns
    for candidates in usual:
        if all(column in table.columns for column in candidates):
            return tuple(candidates)
    if not required:
        return ()
    names = ", ".join(dict.fromkeys("+".join(candidates) for candidates in usual))
    raise DataError(
        f"{table.source} has no column of {what} (looked for {names}); it has {_shown(table)}: name it with "
        f"--set own_model.{option}=COLUMN"
    )


def _shown(table: Table) -> str:
    more = f" and {len(table.columns) - SHOWN} more" if len(table.columns) > SHOWN else ""
    return f"{', '.join(table.columns[:SHOWN])}{more}"
