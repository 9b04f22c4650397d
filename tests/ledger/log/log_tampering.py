"""Someone with write access to a ledger's files, for the tests that must find them out."""

import sqlite3
from contextlib import closing

from ledger.log import SigCheck, verify_log
from ledger.log.tree import Frontier, leaf_hash

SIZE = 2_600
"""Entries in the log of the `home` fixture: two full blocks of verification and a part."""


class Tampering:
    """Someone with write access to the files but without the keys."""

    def __init__(self, home):
        self.home = home
        self.connection = sqlite3.connect(home / "ledger.db", isolation_level=None)
        self.run("PRAGMA synchronous = OFF")  # an attacker need not wait for the disk

    def run(self, statement, *parameters):
        return self.connection.execute(statement, parameters).fetchall()

    def raw(self, seq):
        return self.run("SELECT raw FROM entry WHERE seq = ?", seq)[0][0]

    def write_raw(self, seq, raw):
        self.run("UPDATE entry SET raw = ? WHERE seq = ?", raw, seq)

    def flip(self, seq, offset):
        raw = bytearray(self.raw(seq))
        raw[offset] ^= 0x04
        self.write_raw(seq, bytes(raw))

    def rehash(self):
        """Make leaf columns and the whole tree fit whatever the entries are now."""
        rows = self.run("SELECT seq, raw FROM entry ORDER BY seq")
        frontier = Frontier()
        self.run("BEGIN")
        self.run("DELETE FROM node")
        for seq, raw in rows:
            leaf = leaf_hash(raw)
            self.run("UPDATE entry SET leaf = ? WHERE seq = ?", leaf, seq)
            self.connection.executemany("INSERT INTO node VALUES (?, ?, ?)", frontier.append(leaf))
        self.run("COMMIT")

    def found(self, sigs=SigCheck.ALL, **arguments):
        self.connection.close()
        result = verify_log(self.home, sigs=sigs, **arguments)
        return {(finding.code, finding.seq) for finding in result.findings}, result


def sql(home, *statements):
    """Run statements, each a tuple with its parameters, on the closed log's database."""
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as connection:
        for statement, *parameters in statements:
            connection.execute(statement, *parameters)


def codes(home, **arguments):
    """What a verification of the log finds."""
    return {finding.code for finding in verify_log(home, **arguments).findings}
