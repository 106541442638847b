"""The table of traps, TRAPS.md, is complete and true to the tests.

Every id T1 to T42 has one row; a row names tests that exist, or says why there is none;
and a test with an id in its name, `test_t12_t39_...`, is named in the rows of its ids.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent.parent
TABLE = Path(__file__).parent / "TRAPS.md"
NUM_TRAPS = 42
REASONS = ("Cannot occur: ", "Later: ")  # how a row without tests must begin


class Row(NamedTuple):
    """A row of the table; `tests` are written "folder/test_file.py::test_name"."""

    trap: int
    described: str
    tests: tuple[str, ...]
    note: str


def read_rows(text: str) -> list[Row]:
    """Returns the rows of the table in the order they stand in."""
    rows = []
    for line in text.splitlines():
        if match := re.match(r"\| *T(\d+) *\|", line):
            _, _, described, tests, note, _ = (c.strip() for c in line.split("|"))
            named = tuple(re.findall(r"`([^`]+\.py::[^`]+)`", tests))
            rows.append(Row(int(match[1]), described, named, note))
    return rows


def traps_in(name: str) -> list[int]:
    """Returns the ids in a test's name: [12, 39] for "test_t12_t39_every_example"."""
    leading = re.match(r"test_((?:t\d{1,2}_)*)", name)  # later a t5 is the encoder
    return [int(number) for number in re.findall(r"\d+", leading[1])] if leading else []


def collect_tests() -> set[str]:
    """Returns every test function in tests/, as the table writes it."""
    return {
        f"{path.relative_to(TESTS).as_posix()}::{node.name}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


ROWS = read_rows(TABLE.read_text("utf-8"))


def test_every_trap_has_one_row_in_order():
    assert [row.trap for row in ROWS] == list(range(1, NUM_TRAPS + 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"T{row.trap}")
def test_a_row_describes_its_trap_and_names_tests_or_a_reason(row):
    assert len(row.described) > 20
    assert row.tests or row.note.startswith(REASONS)


def test_named_tests_exist():
    named = {test for row in ROWS for test in row.tests}
    assert len(named) > NUM_TRAPS
    assert named <= collect_tests(), sorted(named - collect_tests())


def test_tests_of_traps_are_named_in_their_rows():
    rows = {row.trap: row for row in ROWS}
    numbered = {test: traps_in(test.split("::")[1]) for test in collect_tests()}
    assert sum(map(bool, numbered.values())) > NUM_TRAPS
    missing = [
        f"T{trap}: {test}"
        for test, traps in sorted(numbered.items())
        for trap in traps
        if test not in rows[trap].tests
    ]
    assert not missing


@pytest.mark.parametrize(
    ("name", "traps"),
    [
        ("test_t02_of_one", [2]),
        ("test_t12_t39_of_two", [12, 39]),
        ("test_t_inverts_log_snr", []),
        ("test_bfloat16_outputs", []),
        ("test_a_batch_is_uint8_and_whole", []),
    ],
)
def test_ids_are_read_from_names(name, traps):
    assert traps_in(name) == traps
