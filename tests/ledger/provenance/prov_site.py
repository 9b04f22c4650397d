"""One honest site of a consortium: its signed log, what it published and what it saw of others."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from prov_books import DiskBook, MemoryBook, SiteSigners, secret_of
from prov_stories import MICRO, START_US, digest
from prov_teller import Plan, Teller

from gossip.identifiers import site_id_of
from ledger.log import Signer, commitment_of
from ledger.log.own_kinds import compromise_draft
from ledger.log.writer import DraftSecret
from ledger.provenance.kinds import (
    Record,
    Redacted,
    StudyApproved,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.peers import (
    HeldHead,
    note_digest,
)

Book = MemoryBook | DiskBook
MINUTE_US = 60 * MICRO
HOUR_US = 60 * MINUTE_US
TOWNS = ("Basel", "Bern", "Chur", "Davos")
APPROVER = "approver"


class Site(Teller):
    """One site: writes into its own book, receives what others really published."""

    def __init__(self, name: str, random: Random, make_book: Callable[..., Book]) -> None:
        super().__init__(random)
        self.name = name
        self.keys = SiteSigners.of(name)
        self.id = bytes(site_id_of(self.keys.identity.public_key))
        self.skew_us = random.randint(-100, 100) * MICRO
        self.book = make_book(self.keys, START_US + self.skew_us)
        self.now_us = START_US
        self.published: dict[tuple[bytes, int], Published] = {}
        self.held: dict[bytes, HeldHead] = {}
        self.plans: dict[bytes, Plan] = {}
        self.steered_in: set[bytes] = set()
        self.approvals: list[int] = []
        self.others: dict[bytes, Site] = {}

    def clock_us(self) -> int:
        return self.now_us + self.skew_us

    def tell(self, record: Record) -> int:
        """Commit one record. Returns its entry number."""
        if isinstance(record, StudyApproved):
            return self._approve(record)
        draft = record.draft("node")
        is_redaction = isinstance(record, Redacted)
        at = self.clock_us()
        entry = self.book.redact(draft, at) if is_redaction else self.book.append([draft], at)[-1]
        if isinstance(record, UpdatePublished):
            key = (record.study, record.round)
            head = note_digest(self.book.note)
            self.published[key] = Published(entry.seq, entry.leaf, head, record.hash)
        return entry.seq

    def _approve(self, record: StudyApproved) -> int:
        secret = secret_of(self.name, b"Dr. " + self.name.encode())
        commit = commitment_of(APPROVER, secret.salt, secret.value)
        draft = replace(record, approver_commit=commit).draft("data-owner")
        kept = DraftSecret(0, APPROVER, secret)
        entry = self.book.append([draft], self.clock_us(), [kept])[-1]
        self.approvals.append(entry.seq)
        return entry.seq

    def log_id_of(self, peer: bytes) -> bytes:
        return self.others[peer].book.identity.log_id

    def trained(self, plan: Plan, round_: int) -> bytes:
        return digest("trained", self.name, plan.study, round_, plan.model)

    def take(self, study: bytes, round_: int, sender: "Site", verdict: str) -> UpdateReceived:
        """Record a neighbour's publication."""
        sent = sender.published[study, round_]
        reason = {"accepted": "", "rejected": "not-finite", "late": "after-the-round"}[verdict]
        record = UpdateReceived(
            study=study,
            round=round_,
            sender=sender.id,
            from_seq=sent.seq,
            from_leaf=sent.leaf,
            from_head=sent.head,
            hash=sent.hash,
            verdict=verdict,
            reason=reason,
        )
        self.tell(record)
        return record

    def rotate_log_key(self) -> None:
        new = Signer(digest(self.name, "log", len(self.book.identity.keys)))
        old_pk = self.book.identity.log_pk
        self.book.rotate(new, self.clock_us())
        if self.random.random() < 0.5:
            since_us = self.clock_us() + MINUTE_US
            self.book.append([compromise_draft(old_pk, since_us, "operator")], self.clock_us())


class Published:
    """An own publication: where it stands, and the head that went out with it."""

    def __init__(self, seq: int, leaf: bytes, head: bytes, hash_: bytes) -> None:
        self.seq, self.leaf, self.head, self.hash = seq, leaf, head, hash_
