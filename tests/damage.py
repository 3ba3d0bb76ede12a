"""Damage the files of a run at random from a seed, and say how: results, raw samples, rules."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

#: The damaged content, and how it was damaged.
Damaged: TypeAlias = tuple[bytes, str]
Choose: TypeAlias = random.Random

#: One file in seven has bytes changed, whatever they mean.
BYTES = 7


# Bytes --------------------------------------------------------------------------------------------


def damaged_bytes(content: bytes, choose: Choose) -> Damaged:
    """Return the content with bytes cut, changed or added."""
    place, more = choose.randrange(len(content)), choose.randbytes(choose.choice((1, 3, 40)))
    flipped = bytes(byte ^ 0xFF for byte in content[place : place + 2])
    ways = {
        "cut": content[:place],
        "behead": content[place:],
        "flip": content[:place] + flipped + content[place + len(flipped) :],
        "insert": content[:place] + more + content[place:],
        "repeat": content[:place] + content[max(0, place - 200) :],
        "append": content + more,
        "empty": b"",
        "mark": b"\xef\xbb\xbf" + content,
        "zeros": b"\0" * 100,
        "utf-16": content.decode("latin-1").encode("utf-16"),
    }
    way = choose.choice(list(ways))
    return ways[way], f"{way} at {place}"


# Results ------------------------------------------------------------------------------------------

#: Placeholders in a document for values that ``json.dumps`` would not write.
DEEP, WIDE = "@deep@", "@wide@"
TEXTS = (
    *("", "x" * 5000, "a/b", "toy", "toy/base", "quick", "hits", "ok", "../../x"),
    *("\x1b[31m", "\n", "toy\n", "\ud800", "\0", "\u202e"),
)
NUMBERS = (
    *(0, -1, 1, 5, 2**31 - 1, 2**63, 10**400, 0.5, 1e308, -1e308, 5e-324, 1e-300),
    *(float("nan"), float("inf")),
)
OTHERS = (None, True, False, [], {}, [1], ["a", "b"], {"a": 1}, [[1, 2]], DEEP, WIDE)
VALUES = (*TEXTS, *NUMBERS, *OTHERS)
FACTORS = (-1, 0, 1e-200, 1e9, 1e200, 10**300)

Path: TypeAlias = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a document."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*path, key))


def value_at(document: Any, path: Path) -> Any:
    """Return the value at a path of a document."""
    for step in path:
        document = document[step]
    return document


def replaced(document: Any, path: Path, choose: Choose) -> None:
    value_at(document, path[:-1])[path[-1]] = choose.choice(VALUES)


def deleted(document: Any, path: Path, choose: Choose) -> None:
    del value_at(document, path[:-1])[path[-1]]


def wrapped(document: Any, path: Path, choose: Choose) -> None:
    value = value_at(document, path)
    value_at(document, path[:-1])[path[-1]] = choose.choice(([value], {"inner": value}, [value, value]))


def added(document: Any, path: Path, choose: Choose) -> None:
    value = value_at(document, path)
    (value if isinstance(value, dict) else document)[choose.choice(("extra", *TEXTS))] = choose.choice(VALUES)


def moved(document: Any, path: Path, choose: Choose) -> None:
    other = value_at(document, choose.choice(list(places(document))[1:]))
    # A copy, or a place could hold itself.
    value_at(document, path[:-1])[path[-1]] = json.loads(json.dumps(other))


def scaled(document: Any, path: Path, choose: Choose) -> None:
    value = value_at(document, path)
    if isinstance(value, (int, float)):
        value_at(document, path[:-1])[path[-1]] = value * choose.choice(FACTORS)


def renamed(document: Any, path: Path, choose: Choose) -> None:
    holder = value_at(document, path[:-1])
    if isinstance(holder, dict):
        holder[choose.choice((*TEXTS, *holder))] = holder.pop(path[-1])


def reordered(document: Any, path: Path, choose: Choose) -> None:
    value = value_at(document, path)
    if isinstance(value, list) and value:
        change: Callable[[], object] = choose.choice(
            (value.reverse, value.pop, lambda: value.append(value[0]))
        )
        change()


CHANGES = (replaced, replaced, replaced, deleted, wrapped, added, moved, scaled, scaled, renamed, reordered)


def damaged_results(content: bytes, choose: Choose) -> Damaged:
    """Return a results file with a few values changed, and how."""
    if not choose.randrange(BYTES):
        return damaged_bytes(content, choose)
    document, ways = json.loads(content), []
    for _ in range(choose.choice((1, 1, 1, 2, 3))):
        change, path = choose.choice(CHANGES), choose.choice(list(places(document))[1:])
        change(document, path, choose)
        ways.append(f"{change.__name__} {'.'.join(map(str, path))[:60]}")
    text = json.dumps(document)
    text = text.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
    text = text.replace(f'"{WIDE}"', f"[{'0,' * 100_000}0]")
    if not choose.randrange(20):
        ways.append("a field twice")
        text = text.replace('"seed":', '"seed": 1, "seed":')
    return text.encode("utf-8", "surrogatepass"), ", ".join(ways)


# Samples ------------------------------------------------------------------------------------------

#: Numbers that are impossible as samples, or unlikely.
SAMPLES = (
    *(-5, -1, 0, 1, 2**31 - 1, 2**40, np.nan, np.inf, -np.inf),
    *(1e308, -1e308, 5e-324, 1e-200, 1e76, 1e74, 1e-74, 9_999, 10_000),
)
#: Changes of an array of numbers to another type or shape.
ARRAYS: tuple[Callable[[Any], Any], ...] = (
    lambda values: np.float64(3),
    lambda values: np.array([]),
    lambda values: values[:-1],
    lambda values: np.append(values, values[:1]),
    lambda values: values[..., None],
    lambda values: np.array([values.tolist()], dtype=object),
    lambda values: np.array(["text"] * len(values)),
    lambda values: np.zeros(len(values), dtype=[("a", "f8")]),
    lambda values: np.zeros(len(values), dtype="M8[s]"),
    lambda values: values.astype(complex),
    lambda values: values.astype(bool),
    lambda values: values.astype(np.float16),
    lambda values: values.astype(np.longdouble),
    lambda values: values.astype(">f8"),
    lambda values: values.astype(np.int64),
    lambda values: values.astype(np.int8),
    lambda values: np.abs(values).astype(np.uint64),
    lambda values: values + 0.5,
    lambda values: values[::-1],
    np.asfortranarray,
)
#: Changes of an array of texts.
TEXT_ARRAYS: tuple[Callable[[Any], Any], ...] = (
    *ARRAYS[:8],
    lambda texts: texts[::-1],
    lambda texts: texts.astype(bytes),
    lambda texts: np.array(["\x1b[31m\u202e\n" * 100] * len(texts)),
    lambda texts: np.array(["x" * 100_000] * len(texts)),
)
SHAPES = ("(10**12,)", "(1000000000000,)", "(-1,)", "(3, 1099511627776)", "()", "(0, 0)", "((" * 300)
TYPES = ("'<f8'", "'|O'", "'<U100000000'", "'<f8, <i4'", "('<f8', (1000, 1000))", "'V8'", "3")
VERSIONS = (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09")
NAMES = (" ", "x", "../x", "x.npy", "a|b|c|values.npy", "a|b|01|wave.npy", "x" * 5000, "toy/base|outputs.npy")

Members: TypeAlias = dict[str, bytes]


def as_npy(values: Any) -> bytes:
    """Return an array as it is stored in an archive."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def from_npy(content: bytes) -> Any:
    """Return the array of a file, or a row of ones where the content cannot be read."""
    try:
        return np.load(io.BytesIO(content))
    except Exception:
        return np.ones(3)


def other_array(members: Members, name: str, choose: Choose) -> None:
    values = np.atleast_1d(from_npy(members[name]))
    with np.errstate(all="ignore"):
        members[name] = as_npy(choose.choice(TEXT_ARRAYS if values.dtype.kind == "U" else ARRAYS)(values))


def other_numbers(members: Members, name: str, choose: Choose) -> None:
    values = np.atleast_1d(from_npy(members[name]))
    if values.dtype.kind not in "biuf" or not values.size:
        return
    changed = np.array(values, dtype=float)
    changed[choose.choice((0, -1, slice(None), slice(None, None, 2)))] = choose.choice(SAMPLES)
    whole = np.isfinite(changed).all() and np.abs(changed).max() < 2**62
    members[name] = as_npy(changed.astype(np.int64) if values.dtype.kind == "i" and whole else changed)


def lying_header(members: Members, name: str, choose: Choose) -> None:
    shape, kind, version = choose.choice(SHAPES), choose.choice(TYPES), choose.choice(VERSIONS)
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    members[name] = b"\x93NUMPY" + version + length + header + members[name][-64:]


def other_bytes(members: Members, name: str, choose: Choose) -> None:
    members[name] = damaged_bytes(members[name] or b"x", choose)[0]


def without(members: Members, name: str, choose: Choose) -> None:
    del members[name]


def with_other_name(members: Members, name: str, choose: Choose) -> None:
    members[choose.choice(NAMES)] = members.pop(name)


def with_another(members: Members, name: str, choose: Choose) -> None:
    members[choose.choice(NAMES)] = members[name]


def with_each_other(members: Members, name: str, choose: Choose) -> None:
    other = choose.choice(list(members))
    members[name], members[other] = members[other], members[name]


def bomb(members: Members, name: str, choose: Choose) -> None:
    members[name] = as_npy(np.zeros(choose.choice((2**17, 2**21))))


MEMBERS = (
    *(other_array, other_array, other_numbers, other_numbers, other_numbers, lying_header, other_bytes),
    *(without, with_other_name, with_another, with_each_other, bomb),
)
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def damaged_samples(content: bytes, choose: Choose) -> Damaged:
    """Return an archive of samples with a few members changed, and how."""
    if not choose.randrange(BYTES):
        return damaged_bytes(content, choose)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members, ways = {name: archive.read(name) for name in archive.namelist()}, []
    for _ in range(choose.choice((1, 1, 1, 2))):
        change, name = choose.choice(MEMBERS), choose.choice(list(members))
        change(members, name, choose)
        ways.append(f"{change.__name__} {name[:60]}")
    packing = choose.choice(PACKINGS) if not choose.randrange(12) else zipfile.ZIP_DEFLATED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    packed = buffer.getvalue()
    if not choose.randrange(12):
        ways.append("a size in the directory that is another one")
        size = struct.pack("<I", choose.choice((2**32 - 2, 2**31, 10)))
        place = packed.rfind(b"PK\x01\x02") + 24
        packed = packed[:place] + size + packed[place + 4 :]
    return packed, ", ".join(ways)


# Rules --------------------------------------------------------------------------------------------

#: Values as they are written in TOML.
WRITTEN = (
    *("0", "-1", "5", "0.499", "1e308", "-1e308", "5e-324", "1e-320", "nan", "inf", "9" * 400, "9" * 5000),
    *("true", '""', "''", "[]", "{}", '"x"', '"hits"', '["a", 1]', "[[1]]", "{a = {b = 1}}", "1979-05-27"),
    *(
        '"\\u001b[31m"',
        '"' + "x" * 5000 + '"',
        "[" * 5000,
        "[" * 20 + "]" * 20,
        "{a = " * 300 + "1" + "}" * 300,
    ),
)
KEYS = ("extra", '""', "a.b", "rule", "metric", "largest", '"\\u202e"', ".".join("a" * 2000))

Lines: TypeAlias = list[str]


def other_value(lines: Lines, number: int, choose: Choose) -> None:
    key, sign, _ = lines[number].partition(" = ")
    if sign:
        lines[number] = f"{key} = {choose.choice(WRITTEN)}"


def without_line(lines: Lines, number: int, choose: Choose) -> None:
    if len(lines) > 1:
        del lines[number]


def line_twice(lines: Lines, number: int, choose: Choose) -> None:
    lines.insert(number, lines[number])


def another_key(lines: Lines, number: int, choose: Choose) -> None:
    lines.insert(number, f"{choose.choice(KEYS)} = {choose.choice(WRITTEN)}")


def lines_swapped(lines: Lines, number: int, choose: Choose) -> None:
    other = choose.randrange(len(lines))
    lines[number], lines[other] = lines[other], lines[number]


def many_rules(lines: Lines, number: int, choose: Choose) -> None:
    lines += ["[[rule]]", 'metric = "hits"', "smallest = 0.1"] * choose.choice((3, 1500))


EDITS = (
    other_value,
    other_value,
    other_value,
    without_line,
    line_twice,
    another_key,
    lines_swapped,
    many_rules,
)


def damaged_rules(content: bytes, choose: Choose) -> Damaged:
    """Return a file of rules with a few lines changed, and how."""
    if not choose.randrange(BYTES):
        return damaged_bytes(content, choose)
    lines, ways = content.decode().splitlines(), []
    for _ in range(choose.choice((1, 1, 2, 3))):
        edit, number = choose.choice(EDITS), choose.randrange(len(lines))
        edit(lines, number, choose)
        ways.append(f"{edit.__name__} {number}")
    return "\n".join(lines).encode("utf-8"), ", ".join(ways)


#: The pattern of each kind of file, and the function that damages it.
KINDS: Mapping[str, tuple[str, Callable[[bytes, Choose], Damaged]]] = {
    "results": ("full_results.json", damaged_results),
    "samples": ("*.npz", damaged_samples),
    "rules": ("rules.toml", damaged_rules),
}
