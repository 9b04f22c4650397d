"""Any byte of the ledger's files that says something: one flipped bit is always found."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prov_books import DiskBook, SiteSigners
from prov_consortium import Consortium

from ledger.log import verify_log
from p2pfl.runtime.commands.ledger_reading import ERASABLE

COLUMNS = (
    ("entry", "raw"),
    ("entry", "leaf"),
    ("entry", "kind"),
    ("entry", "study"),
    ("node", "h"),
    ("head", "root"),
    ("head", "signature"),
    ("secret", "value"),
    ("secret", "salt"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of a random honest history, closed."""
    root = tmp_path_factory.mktemp("mutation")
    paths = {SiteSigners.of(name).nonce: root / name for name in ("Basel", "Bern", "Chur")}
    world = Consortium(4, make_book=lambda keys, at: DiskBook(keys, at, paths[keys.nonce])).live()
    world.close()
    return root / "Basel"


def mutate(copy: Path, table: str, column: str, row: int, bit: int) -> None:
    """Flip one bit of one stored value, as type and length were."""
    with closing(sqlite3.connect(copy / "ledger.db")) as connection, connection:
        found = connection.execute(
            f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 -- ours
        ).fetchall()
        old = found[row % len(found)][0]
        data = bytearray(old.encode() if isinstance(old, str) else old)
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        new = data.decode("latin-1") if isinstance(old, str) else bytes(data)
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE {column} IS ?",  # noqa: S608 -- ours
            (new, old),
        )


def test_the_home_is_clean_and_holds_what_is_mutated(home: Path) -> None:
    assert verify_log(home, erasable=ERASABLE).findings == ()
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        for table, column in COLUMNS:
            query = f"SELECT count({column}) FROM {table}"  # noqa: S608 -- ours
            assert connection.execute(query).fetchone()[0] > 0, (table, column)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(COLUMNS), st.integers(0, 10_000), st.integers(0, 100_000))
def test_a_flipped_bit_in_any_value_is_found(
    home: Path, tmp_path: Path, where: tuple[str, str], row: int, bit: int
) -> None:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(home, copy)
    mutate(copy, *where, row, bit)
    assert verify_log(copy, erasable=ERASABLE).findings, (where, row, bit)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1_000_000))
def test_a_flipped_bit_anywhere_in_the_released_heads_is_found(
    home: Path, tmp_path: Path, bit: int
) -> None:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(home, copy)
    data = bytearray((copy / "heads.log").read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    (copy / "heads.log").write_bytes(bytes(data))
    assert verify_log(copy, erasable=ERASABLE).findings, bit
