"""An opened site: everything a command may need, gathered once, with the home's lock held.

Two ways to have one: a command opens the home itself (`open_site`), or the running node makes one
around the ledger it already holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from gossip.identifiers import SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster
from ledger.log import Committed, Draft, Entry, Log, LogIdentity, LogReader
from ledger.provenance import kinds
from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest
from p2pfl.core.membership import Membership
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.commands.backups import require_not_restored
from p2pfl.runtime.commands.log_keys import opened_log
from p2pfl.runtime.config import Config, read_config
from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.ledger_writer import Unless
from p2pfl.runtime.lock import hold_home
from p2pfl.runtime.membership import HomeVotes, MemberVotes
from p2pfl.runtime.membership_files import (
    load_membership,
    members_of,
    roster_in_force,
    settle_roster,
)
from p2pfl.runtime.policy import Policy, read_policy

Clock = Callable[[], int]
"""Now, in microseconds UTC."""
RandomBytes = Callable[[int], bytes]


class Ledger(Protocol):
    """The site's ledger as commands use it: held by the command itself, or by the node."""

    def append(self, drafts: Sequence[Draft]) -> tuple[Entry, ...]:
        """Commit the drafts together; they are durable when this returns."""

    def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> tuple[Entry, ...] | None:
        """Commit the drafts unless an entry written meanwhile spoils them: then None."""

    def change(self, work: Callable[[Log, int], Committed | None]) -> tuple[Entry, ...]:
        """Let `work` replace the log's key or erase a value; it is told the time, µs UTC."""

    @property
    def identity(self) -> LogIdentity:
        """Whose log it is, with its keys."""

    def entries(self) -> Iterator[Entry]:
        """Everything on record, in order."""

    def put_secret(self, seq: int, name: str, salt: bytes, value: bytes) -> None:
        """Keep the erasable value behind a commitment of entry `seq`."""


class Audience(Protocol):
    """Who has to know at once what a command changed. Appended entries are told elsewhere."""

    def manifest_kept(self, manifest: Manifest, proposer: SiteId) -> None:
        """A study's manifest was stored and recorded."""

    def invitations_changed(self) -> None:
        """One was made or taken back. Raises OperatorError if nobody can answer where it says."""


class Nobody:
    """No node runs: whoever starts next reads it from the home."""

    def manifest_kept(self, manifest: Manifest, proposer: SiteId) -> None:
        """Nothing to do."""

    def invitations_changed(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """An opened home."""

    home: Home
    config: Config
    policy: Policy
    policy_hash: bytes
    keys: SiteKeys = field(repr=False)
    ledger: Ledger
    audience: Audience
    votes: MemberVotes
    now_us: Clock
    random_bytes: RandomBytes

    @property
    def blobs(self) -> BlobStore:
        """The home's artefacts."""
        return BlobStore(self.home.blobs)

    def history(self) -> History:
        """The fold over the ledger as it is now."""
        return History(self.ledger.entries())

    def record(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Append drafts as one commit, and before them a policy that changed since the last."""
        return self.ledger.append([*self._policy_drafts(), *drafts])

    def record_unless(self, unless: Unless, *drafts: Draft) -> tuple[Entry, ...] | None:
        """Like `record`, unless an entry written since spoils what was prepared: then None."""
        return self.ledger.append_unless([*self._policy_drafts(), *drafts], unless)

    def _policy_drafts(self) -> list[Draft]:
        recorded = b""
        for entry in self.ledger.entries():
            if entry.kind == kinds.PolicyChanged.KIND:
                recorded = bytes(entry.body["hash"])  # type: ignore[arg-type]  # kinds.parse checks
        if recorded == self.policy_hash:
            return []
        return [kinds.PolicyChanged(self.policy_hash).draft("operator")]


@dataclass(frozen=True, slots=True)
class HeldLedger:
    """The ledger of a home whose lock this process holds."""

    log: Log
    now_us: Clock

    def append(self, drafts: Sequence[Draft]) -> tuple[Entry, ...]:
        """Commit the drafts together."""
        return self.log.append(drafts, self.now_us()).entries

    def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> tuple[Entry, ...] | None:
        """Commit the drafts: nobody else writes while this process holds the home's lock."""
        return self.append(drafts)

    def change(self, work: Callable[[Log, int], Committed | None]) -> tuple[Entry, ...]:
        """Replace the log's key or erase a value."""
        committed = work(self.log, self.now_us())
        return () if committed is None else committed.entries

    @property
    def identity(self) -> LogIdentity:
        """Whose log it is, with its keys."""
        return self.log.identity

    def entries(self) -> Iterator[Entry]:
        """Everything on record."""
        return self.log.entries()

    def put_secret(self, seq: int, name: str, salt: bytes, value: bytes) -> None:
        """Keep an erasable value."""
        self.log.put_secret(seq, name, salt, value)


@contextmanager
def open_site(
    home: Home, *, purpose: str, now_us: Clock, random_bytes: RandomBytes = os.urandom
) -> Iterator[Site]:
    """Lock the home and open its ledger for the time of one command.

    Raises OperatorError, LedgerError or KeyFileError; then nothing was changed.
    """
    require_not_restored(home)
    with hold_home(home, purpose=purpose):
        keys, log = opened_log(home)
        try:
            settle_roster(home, log.entries())
            ledger = HeldLedger(log, now_us)
            votes = home_votes(home, keys, ledger, now_us)
            yield site_around(home, keys, ledger, Nobody(), votes, now_us, random_bytes)
        finally:
            log.close()


def home_votes(home: Home, keys: SiteKeys, ledger: Ledger, now_us: Clock) -> HomeVotes:
    """The votes of a home whose lock this process holds."""

    def load() -> Membership:
        return load_membership(home, keys, required_version(home), ledger.entries())

    return HomeVotes(home, load, ledger.append, lambda: now_us() / 1_000_000)


def site_around(
    home: Home,
    keys: SiteKeys,
    ledger: Ledger,
    audience: Audience,
    votes: MemberVotes,
    now_us: Clock,
    random_bytes: RandomBytes,
) -> Site:
    """A site around a ledger that is already open; reads configuration and policy afresh."""
    policy, policy_hash = read_policy(home.policy)
    return Site(
        home=home,
        config=read_config(home.config),
        policy=policy,
        policy_hash=policy_hash,
        keys=keys,
        ledger=ledger,
        audience=audience,
        votes=votes,
        now_us=now_us,
        random_bytes=random_bytes,
    )


def read_history(home: Home) -> History:
    """The fold over the ledger, from a snapshot; works beside a running node."""
    reader = LogReader.open(home.path)
    try:
        return History(reader.entries())
    finally:
        reader.close()


def installed_roster(home: Home) -> Roster | None:
    """The members with their newest cards, or None before the first roster.

    Its digest is none of a version: see `version_in_force`. Raises OperatorError for damage."""
    return members_of(home)


def required_roster(home: Home) -> Roster:
    """Like `installed_roster`. Raises OperatorError if there is none yet."""
    return _required(installed_roster(home))


def version_in_force(home: Home) -> Roster | None:
    """The roster as its members agreed to it, or None before the first. Raises OperatorError."""
    return roster_in_force(home)


def required_version(home: Home) -> Roster:
    """Like `version_in_force`. Raises OperatorError if there is none yet."""
    return _required(version_in_force(home))


def _required(roster: Roster | None) -> Roster:
    if roster is None:
        raise OperatorError(
            "This site belongs to no consortium yet: no roster is installed.",
            fix="Invited: `p2pfl consortium join`. To found one: collect every site's card, then "
            "`p2pfl roster create` and `roster sign`.",
            exit_code=EXIT_NO_INPUT,
        )
    return roster
