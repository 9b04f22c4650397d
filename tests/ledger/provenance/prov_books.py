"""Two ways to keep a site's real log in a test: in memory, or on disk to be tampered with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prov_stories import digest

from ledger.log import Draft, Entry, Log, LogIdentity, Secret, Signer
from ledger.log.own_kinds import sign_rotation
from ledger.log.writer import DraftSecret
from simulations.memory_ledger import MemoryLedger


@dataclass(frozen=True, slots=True)
class SiteSigners:
    """The keys of one site that its ledger knows. log: the one it was founded with."""

    identity: Signer
    log: Signer
    witness: Signer
    nonce: bytes

    @classmethod
    def of(cls, name: str) -> "SiteSigners":
        def signer(role: str) -> Signer:
            return Signer(digest(name, role))

        return cls(signer("identity"), signer("log"), signer("witness"), digest(name, "nonce"))


class MemoryBook:
    """The real entries, signatures, chain and heads, without files."""

    def __init__(self, keys: SiteSigners, now_us: int) -> None:
        self._keys = keys
        self._ledger = MemoryLedger(
            deployment="test",
            identity=keys.identity,
            log=keys.log,
            witness_pk=keys.witness.public_key,
            nonce=keys.nonce,
            now_us=now_us,
        )
        self.notes = [self._ledger.note]

    @property
    def identity(self) -> LogIdentity:
        return self._ledger.identity

    @property
    def entries(self) -> list[Entry]:
        return self._ledger.entries

    @property
    def note(self) -> bytes:
        return self.notes[-1]

    def append(
        self, drafts: Sequence[Draft], now_us: int, secrets: Sequence[DraftSecret] = ()
    ) -> tuple[Entry, ...]:
        entries = self._ledger.append(drafts, (), now_us)
        self.notes.append(self._ledger.note)
        return entries

    def rotate(self, new: Signer, now_us: int) -> Entry:
        entry = self._ledger.rotate(new, rotation_statement(self.identity, self._keys, new), now_us)
        self.notes.append(self._ledger.note)
        return entry

    def redact(self, draft: Draft, now_us: int) -> Entry:
        return self.append([draft], now_us)[-1]

    @property
    def root(self) -> bytes:
        return self._ledger.checkpoint.root

    def close(self) -> None:
        """Nothing to give back."""


def rotation_statement(identity: LogIdentity, keys: SiteSigners, new: Signer) -> bytes:
    return sign_rotation(
        identity.log_id, old_pk=identity.log_pk, new_pk=new.public_key, identity=keys.identity
    )


class DiskBook:
    """A real log in a home."""

    def __init__(self, keys: SiteSigners, now_us: int, home: Path) -> None:
        self.home = home
        self._keys = keys
        self._log = Log.create(
            home,
            deployment="test",
            identity=keys.identity,
            log=keys.log,
            witness_pk=keys.witness.public_key,
            nonce=keys.nonce,
            now_us=now_us,
        )
        self.notes = [self._log.note]

    @property
    def identity(self) -> LogIdentity:
        return self._log.identity

    @property
    def entries(self) -> list[Entry]:
        return list(self._log.entries())

    @property
    def note(self) -> bytes:
        return self._log.note

    def append(
        self, drafts: Sequence[Draft], now_us: int, secrets: Sequence[DraftSecret] = ()
    ) -> tuple[Entry, ...]:
        committed = self._log.append(drafts, now_us, secrets)
        self.notes.append(committed.note)
        return committed.entries

    def rotate(self, new: Signer, now_us: int) -> Entry:
        statement = rotation_statement(self.identity, self._keys, new)
        committed = self._log.rotate(new, statement, now_us)
        self.notes.append(committed.note)
        return committed.entries[-1]

    def redact(self, draft: Draft, now_us: int) -> Entry:
        seq, field, basis = draft.body["seq"], draft.body["field"], draft.body["basis"]
        assert isinstance(seq, int)
        assert isinstance(field, str)
        assert isinstance(basis, str)
        committed = self._log.redact(seq, field, basis=basis, now_us=now_us)
        assert committed is not None
        self.notes.append(committed.note)
        return committed.entries[-1]

    def close(self) -> None:
        self._log.close()


def secret_of(name: str, value: bytes) -> Secret:
    """A secret with a salt that depends on the name alone."""
    return Secret(digest("salt", name), value)
