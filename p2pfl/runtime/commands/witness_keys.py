"""Replacing the witness key, under which this site cosigns the other sites' ledgers.

The identity key's statement is an entry of the own ledger: every member mirrors it, so what the old
key cosigned before stays valid everywhere, and nothing that it signs later counts. The new key is
durable under another name before the entry, and takes its place after: no stop in between leaves
a ledger that names a lost key. The site's newer card follows; the others need the entry alone. The
node has to be stopped meanwhile: it would go on under the old key."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gossip import ed25519
from gossip.keys import Role, SiteKeys
from ledger.log import (
    Committed,
    Draft,
    Log,
    LogIdentity,
    LogReader,
    OnDamage,
    Signer,
    WitnessKey,
    compromise_draft,
    sign_rotation,
)
from ledger.log.errors import LedgerError
from ledger.log.own_kinds import WITNESS_KEY, rotation_draft
from ledger.provenance.moments import moment_of
from p2pfl.runtime.commands.log_keys import keep_next_key, settle_witness_key
from p2pfl.runtime.commands.opening import Site, required_version
from p2pfl.runtime.commands.roster_voting import renew_card
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home

KEYS_MAX: Final = 16
"""Of one log, that other sites keep."""


@dataclass(frozen=True, slots=True)
class RotateWitness:
    """Replace the witness key. compromised_since_us: since when others may have had the old one.

    0: it is replaced for another reason."""

    confirmed: bool
    compromised_since_us: int = 0


@dataclass(frozen=True, slots=True)
class WitnessRotated:
    """The entry that says so, the keys before and after, and the site's newer card."""

    seq: int
    old: bytes
    new: bytes
    compromised_since_us: int
    card: Path
    serial: int


def rotate_witness(site: Site, request: RotateWitness) -> WitnessRotated:
    """A new witness key in a home whose node is stopped. Raises OperatorError, LedgerError."""
    required_version(site.home)
    before = site.ledger.identity
    _check_request(site, request, before)
    seed = site.random_bytes(ed25519.SEED_BYTES)
    new_pk = ed25519.public_key_of(seed)
    keep_next_key(site.home, Role.WITNESS, seed)
    drafts = [_statement(before, new_pk, Signer(site.keys.identity))]
    since_us = request.compromised_since_us
    if since_us:
        drafts.append(compromise_draft(before.witness_pk, since_us, "operator", WITNESS_KEY))

    def append(log: Log, now_us: int) -> Committed:
        # One commit: at no moment is the key replaced and not yet disowned.
        return log.append(drafts, now_us)

    try:
        entry, *_ = site.ledger.change(append)
    finally:
        settle_witness_key(site.home)
    card = renew_card(site, keys=replace(site.keys, witness=seed))
    path = site.home.card(site.config.name)
    return WitnessRotated(entry.seq, before.witness_pk, new_pk, since_us, path, card.serial)


def _statement(identity: LogIdentity, new_pk: bytes, signer: Signer) -> Draft:
    old_pk = identity.witness_pk
    statement = sign_rotation(
        identity.log_id, old_pk=old_pk, new_pk=new_pk, identity=signer, key=WITNESS_KEY
    )
    return rotation_draft(identity, new_pk, statement, "operator", WITNESS_KEY)


def _check_request(site: Site, request: RotateWitness, identity: LogIdentity) -> None:
    if request.compromised_since_us > site.now_us():
        raise OperatorError(
            f"{moment_of(request.compromised_since_us)} is in the future.",
            fix="Name the time, UTC, since which somebody else may have had the key.",
            exit_code=EXIT_USAGE,
        )
    if len(identity.witnesses) >= KEYS_MAX:
        raise OperatorError(
            f"This ledger names {KEYS_MAX} witness keys already; other sites keep no more of it.",
            fix="Go on in a new ledger (`p2pfl ledger new-incarnation`).",
            exit_code=EXIT_REFUSED,
        )
    if not request.confirmed:
        raise OperatorError(
            "The witness key would be replaced for good: what it cosigned so far stays valid, what "
            "anybody signs with it later counts nowhere.",
            fix="Do it with --yes. If a stranger may have it, say since when: "
            "--compromised-since 2026-03-01T14:30:00Z.",
            exit_code=EXIT_REFUSED,
        )


def require_witness_key(keys: SiteKeys, identity: LogIdentity) -> None:
    """Raises OperatorError where the home has not the key that the ledger names.

    What such a node cosigned would be refused by everybody."""
    if Signer(keys.witness).public_key == identity.witness_pk:
        return
    raise OperatorError(
        "This site's witness key was replaced after the keys in this home were backed up: the "
        "other sites refuse what the old one signs.",
        fix="Restore a key backup that was made after it (`p2pfl keys restore`). If there is none: "
        "`p2pfl keys rotate witness --yes` makes another key.",
        exit_code=EXIT_REFUSED,
    )


def witness_keys_of(home: Home) -> tuple[WitnessKey, ...]:
    """This site's witness keys as its ledger names them, the one in force last; none if it cannot
    be read."""
    try:
        with closing(LogReader.open(home.path, on_damage=OnDamage.SHOW)) as reader:
            return reader.identity.witnesses
    except LedgerError:
        return ()
