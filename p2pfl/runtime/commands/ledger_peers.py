"""Gathering what other sites hold, for an audit that compares: paths given, and the own witness.db.

A path may be another site's home, a copy of its `ledger.db` and `heads.log`, a `witness.db`, or a
fork proof's file. Nothing here asks the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gossip.errors import PeerError
from gossip.identifiers import SiteId, site_id_of
from gossip.limits import ROSTER_BYTES_MAX
from gossip.roster import Roster, decode_roster
from ledger.log import LedgerError, LogIdentity, LogReader, OnDamage
from ledger.provenance.peers import CardSeen, PeerEvidence
from ledger.provenance.peers_files import Gathering
from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home, read_bounded, read_own

PROOF_BYTES_MAX: Final = 1 << 20
_LEDGER: Final = "ledger.db"
_WITNESS: Final = "witness.db"


def gather_peers(home: Home, roster: Roster | None, peers: Sequence[Path]) -> PeerEvidence:
    """Everything about this site's log and the others' that can be read here.

    roster: of the audited site; None leaves cosignatures unknown. Raises OperatorError for a path
    that is none of the things this reads; damaged files are problems that the audit reports."""
    identity = _own_identity(home)
    cards = roster.members if roster is not None else ()
    gathering = Gathering(identity, {card.witness_pk: bytes(card.site) for card in cards})
    holders: list[tuple[Path, bytes]] = []
    # Ledgers first: they say whose signatures count on heads that others hold.
    for path in peers:
        if (path / _LEDGER).is_file():
            site = gathering.add_ledger(path)
            holders += [(path, site)] if site is not None else []
        elif not path.exists():
            raise _no_peer(path, "there is nothing")
    own_site = _own_site(identity)
    if (home.path / _WITNESS).is_file():
        gathering.add_witness(home.path / _WITNESS, own_site)
    for path, site in holders:
        if (path / _WITNESS).is_file():
            gathering.add_witness(path / _WITNESS, site)
    for path in peers:
        if not (path / _LEDGER).is_file():
            _add_other(gathering, path)
    seen = [] if roster is None else _cards_of(roster, own_site, own_site)
    for path, site in holders:
        theirs = _roster_of(Home(path))
        seen += [] if theirs is None else _cards_of(theirs, own_site, site)
    members = frozenset(bytes(card.site) for card in cards) - {own_site}
    return replace(gathering.evidence(), cards=tuple(seen), members=members)


def _add_other(gathering: Gathering, path: Path) -> None:
    if path.is_dir() and (path / _WITNESS).is_file():
        gathering.add_witness(path / _WITNESS, b"")
    elif path.name == _WITNESS:
        gathering.add_witness(path, b"")
    elif path.is_dir() or not gathering.add_fork(read_bounded(path, PROOF_BYTES_MAX)):
        raise _no_peer(path, "nothing to compare with was found")


def _no_peer(path: Path, what: str) -> OperatorError:
    return OperatorError(
        f"{path}: {what}.",
        fix="Give another site's home, a copy of its ledger.db and heads.log in a directory, its "
        "witness.db, or a fork proof.",
        exit_code=EXIT_NO_INPUT,
    )


def _own_identity(home: Home) -> LogIdentity | None:
    try:
        reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    except LedgerError:
        return None  # the audit itself says what is wrong with it
    try:
        return reader.identity
    finally:
        reader.close()


def _own_site(identity: LogIdentity | None) -> bytes:
    return b"" if identity is None else bytes(site_id_of(identity.identity_pk))


def _roster_of(home: Home) -> Roster | None:
    """The roster in another site's home, if it can be read: its members signed it."""
    try:
        return decode_roster(read_own(home.roster, ROSTER_BYTES_MAX))
    except (OSError, PeerError):
        return None


def _cards_of(roster: Roster, site: bytes, holder: bytes) -> list[CardSeen]:
    if SiteId(site) not in roster:
        return []
    card = roster.member(SiteId(site))
    return [CardSeen(holder, bytes(card.log_id), card.log_pk)]
