"""Ways to tamper with the files of a home: with write access alone, and with the site's keys."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
from prov_books import SiteSigners, secret_of
from prov_site import APPROVER

from ledger.log import Draft, Log, LogReader, Signer
from ledger.log.entries import ENTRY_DOMAIN, split_raw
from ledger.log.heads_file import HEADS_NAME, RECORD_BYTES
from ledger.log.tree import Frontier, leaf_hash
from ledger.log.writer import DraftSecret
from ledger.provenance.kinds import CLASSES, Record, StudyApproved, parse


@dataclass(frozen=True, slots=True)
class Written:
    """One entry as somebody with the keys may write it again."""

    draft: Draft
    time_us: int


def statements(home: Path, *commands: str, **values: object) -> list[Any]:
    """Run SQL on a home's ledger.db as its operator could."""
    found: list[Any] = []
    with closing(sqlite3.connect(home / "ledger.db")) as connection, connection:
        for command in commands:
            found = connection.execute(command, values).fetchall()
    return found


def raw_of(home: Path, seq: int) -> bytes:
    return bytes(statements(home, "SELECT raw FROM entry WHERE seq = :seq", seq=seq)[0][0])


def write_raw(home: Path, seq: int, raw: bytes) -> None:
    statements(home, "UPDATE entry SET raw = :raw WHERE seq = :seq", raw=raw, seq=seq)


def flip(home: Path, seq: int, offset: int) -> None:
    raw = bytearray(raw_of(home, seq))
    raw[offset] ^= 4
    write_raw(home, seq, bytes(raw))


def rehash(home: Path) -> None:
    """Make leaf columns and tree fit whatever the entries are now."""
    with closing(sqlite3.connect(home / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM node")
        frontier = Frontier()
        for seq, raw in connection.execute("SELECT seq, raw FROM entry ORDER BY seq").fetchall():
            leaf = leaf_hash(raw)
            connection.execute("UPDATE entry SET leaf = ? WHERE seq = ?", (leaf, seq))
            connection.executemany("INSERT INTO node VALUES (?, ?, ?)", frontier.append(leaf))


def cut_heads(home: Path, records: int) -> None:
    path = home / HEADS_NAME
    path.write_bytes(path.read_bytes()[: -records * RECORD_BYTES])


def signed_by(home: Path, seq: int, signer: Signer, change: Callable[[bytes], bytes]) -> None:
    """One entry with a changed body, signed anew by whatever key."""
    body, key_id, _ = split_raw(raw_of(home, seq))
    changed = change(body)
    write_raw(home, seq, msgpack.packb([changed, key_id, signer.sign(ENTRY_DOMAIN + changed)]))
    rehash(home)


def rewrite(
    home: Path, name: str, change: Callable[[list[Written]], list[Written]], nonce: bytes = b""
) -> None:
    """The whole log told anew by somebody who holds all of the site's keys."""
    keys = SiteSigners.of(name)
    reader = LogReader.open(home)
    entries = list(reader.entries())
    reader.close()
    for path in (*home.glob("ledger.db*"), home / HEADS_NAME):
        path.unlink()
    told = [Written(Draft(e.kind, e.actor, dict(e.body)), e.time_us) for e in entries[1:]]
    log = Log.create(
        home,
        deployment="test",
        identity=keys.identity,
        log=keys.log,
        witness_pk=keys.witness.public_key,
        nonce=nonce or keys.nonce,
        now_us=entries[0].time_us,
    )
    secret = secret_of(name, b"Dr. " + name.encode())
    for written in change(told):
        kept = [DraftSecret(0, APPROVER, secret)] if _is_approval(written) else []
        log.append([written.draft], written.time_us, kept)
    log.close()


def _is_approval(written: Written) -> bool:
    return written.draft.kind == StudyApproved.KIND


def changed(kind: type[Record], nth: int = 0, **values: Any) -> Callable[..., list[Written]]:
    """A rewriting in which one record says something else."""

    def change(told: list[Written]) -> list[Written]:
        place = place_of(told, kind, nth)
        record = replace(record_of(told[place]), **values)
        draft = replace(told[place].draft, body=record.body())
        return [*told[:place], replace(told[place], draft=draft), *told[place + 1 :]]

    return change


def instead(kind: type[Record], nth: int, record: Record) -> Callable[..., list[Written]]:
    """A rewriting in which another record stands in one place: no number moves."""

    def change(told: list[Written]) -> list[Written]:
        place = place_of(told, kind, nth)
        other = replace(told[place], draft=record.draft("node"))
        return [*told[:place], other, *told[place + 1 :]]

    return change


def place_of(told: list[Written], kind: type[Record], nth: int) -> int:
    return [at for at, x in enumerate(told) if x.draft.kind == kind.KIND][nth]


def record_of(written: Written) -> Any:
    return CLASSES[written.draft.kind].from_body(written.draft.body)


def records(home: Path, kind: type[Record]) -> list[Any]:
    """All records of a kind in a home's ledger."""
    reader = LogReader.open(home)
    try:
        return [parse(e) for e in reader.entries(1) if e.kind == kind.KIND]
    finally:
        reader.close()


def append(home: Path, name: str, *records_: Record, now_us: int) -> None:
    log = Log.open(home, log=SiteSigners.of(name).log)
    try:
        log.append([record.draft("node") for record in records_], now_us)
    finally:
        log.close()


def copy_of(home: Path, path: Path) -> Path:
    shutil.copytree(home, path)
    return path
