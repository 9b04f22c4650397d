"""Two ways to keep a site's real log in a test: in memory, or on disk to be tampered with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prov_stories import digest

from ledger.log import (
    Checkpoint,
    Draft,
    Entry,
    Log,
    LogIdentity,
    Secret,
    Signer,
    note_sign,
    parse_entry,
)
from ledger.log.entries import NO_PREVIOUS, sign_entry
from ledger.log.genesis import genesis_draft, identity_from_body
from ledger.log.own_kinds import rotated, rotation_draft, sign_rotation
from ledger.log.tree import Frontier
from ledger.log.writer import DraftSecret


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
        draft = genesis_draft(
            deployment="test",
            identity=keys.identity,
            log_pk=keys.log.public_key,
            witness_pk=keys.witness.public_key,
            nonce=keys.nonce,
        )
        self.identity: LogIdentity = identity_from_body(draft.body)
        self.entries: list[Entry] = []
        self.notes: list[bytes] = []
        self._keys = keys
        self._log = keys.log
        self._frontier = Frontier()
        self.append([draft], now_us)

    @property
    def note(self) -> bytes:
        return self.notes[-1]

    def append(
        self, drafts: Sequence[Draft], now_us: int, secrets: Sequence[DraftSecret] = ()
    ) -> tuple[Entry, ...]:
        first = len(self.entries)
        self._sign(drafts, now_us)
        self._release()
        return tuple(self.entries[first:])

    def _sign(self, drafts: Sequence[Draft], now_us: int) -> None:
        for draft in drafts:
            prev = self.entries[-1].leaf if self.entries else NO_PREVIOUS
            raw = sign_entry(
                draft,
                identity=self.identity,
                seq=len(self.entries),
                prev=prev,
                time_us=now_us,
                log=self._log,
            )
            entry = parse_entry(raw)
            self._frontier.append(entry.leaf)
            self.entries.append(entry)

    def _release(self) -> None:
        head = Checkpoint(self.identity.origin, self._frontier.size, self._frontier.root())
        self.notes.append(note_sign(head.text, self.identity.origin, self._log))

    def rotate(self, new: Signer, now_us: int) -> Entry:
        old_pk, new_pk = self.identity.log_pk, new.public_key
        statement = sign_rotation(
            self.identity.log_id, old_pk=old_pk, new_pk=new_pk, identity=self._keys.identity
        )
        draft = rotation_draft(self.identity, new_pk, statement, "node")
        identity = rotated(self.identity, len(self.entries), draft.body)
        self._sign([draft], now_us)  # still under the old key; the head over it is the new one's
        self.identity, self._log = identity, new
        self._release()
        return self.entries[-1]

    def redact(self, draft: Draft, now_us: int) -> Entry:
        return self.append([draft], now_us)[-1]

    @property
    def root(self) -> bytes:
        return self._frontier.root()

    def close(self) -> None:
        """Nothing to give back."""


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
        statement = sign_rotation(
            self.identity.log_id,
            old_pk=self.identity.log_pk,
            new_pk=new.public_key,
            identity=self._keys.identity,
        )
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
