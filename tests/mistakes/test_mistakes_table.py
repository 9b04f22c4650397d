"""Every row of docs/mistakes.md has its proof, and every proof its row."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from mistakes_table import GOES_ON, PAGE, Row, begins_like, rows

HERE = Path(__file__).resolve().parent
ROWS_MIN = 30


def functions_in(path: Path) -> Iterator[str]:
    """Names of test functions, without their prefix."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    yield name.removeprefix("test_")


def cases_in(path: Path) -> Iterator[str]:
    """Keys of the parametrized cases, a dict called CASES."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.AnnAssign(target=ast.Name(id="CASES"), value=ast.Dict(keys=keys)):
                yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))


def proofs_here() -> Iterator[str]:
    """Everything in this directory that takes a row: functions by name, cases by key."""
    for path in HERE.glob("test_mistakes_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                takes_a_row = any(argument.arg == "row" for argument in node.args.args)
                if takes_a_row and not node.decorator_list:
                    yield node.name.removeprefix("test_")
        if path != Path(__file__).resolve():
            yield from cases_in(path)


def test_the_table_is_long_enough() -> None:
    assert len(rows()) >= ROWS_MIN


def test_every_line_of_the_table_was_read() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    heads = [line for line in lines if line.endswith("| proof |")]
    assert len(lines) - len(heads) == len(rows())


@pytest.mark.parametrize("row", rows().values(), ids=rows().keys())
def test_every_row_names_a_proof_that_exists(row: Row) -> None:
    assert row.path.is_file(), row.path
    assert row.proof in {*functions_in(row.path), *cases_in(row.path)}


def test_every_proof_has_its_row() -> None:
    assert set(proofs_here()) <= set(rows())


@pytest.mark.parametrize("row", rows().values(), ids=rows().keys())
def test_every_mistake_ends_in_a_code_of_its_own_or_goes_on_visibly(row: Row) -> None:
    assert row.code in (GOES_ON, "0") or 0 < int(row.code) < 128
    assert row.fix


def test_dots_stand_for_anything_and_nothing_else_does() -> None:
    assert begins_like("There is … at …: no", "There is none at /x: not here.")
    assert not begins_like("There is a.b", "There is axb")
