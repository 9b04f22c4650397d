"""`p2pfl ledger new-incarnation`: another log for a site whose old one is lost or has forked.

Its first entry, signed by the identity key, names the old log, the last head of it that anybody
holds, and from which entry on it is lost. What datasets have spent comes along; where entries are
lost, the whole cap counts as spent until the data manager decides."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gossip.card import encode_card, sign_card
from gossip.keys import read_keys
from ledger.log import (
    Draft,
    Entry,
    LedgerError,
    Log,
    LogIdentity,
    LogReader,
    OnDamage,
    Previous,
    Signer,
    follow,
    parse_entry,
    verify_entry,
)
from ledger.log.genesis import parse_genesis
from ledger.log.recovery_files import put_in_place
from ledger.provenance import kinds
from p2pfl.runtime.commands.backups import MARKER
from p2pfl.runtime.commands.carrying import Carried, carried_over
from p2pfl.runtime.commands.ledger_losses import (
    Dial,
    Found,
    Mending,
    OwnLog,
    all_entries,
    ask_enough,
    goes_on_already,
    is_own,
    names_of,
    own_log,
    require_stopped,
    size_of,
)
from p2pfl.runtime.commands.log_keys import keep_next_log_key, settle_log_key
from p2pfl.runtime.commands.opening import Clock, RandomBytes, required_roster
from p2pfl.runtime.commands.starting import newer_ledger
from p2pfl.runtime.config import read_config
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home, write_durably
from p2pfl.runtime.lock import hold_home
from p2pfl.runtime.policy import read_policy

BUILDING = "incarnating"


@dataclass(frozen=True, slots=True)
class NewIncarnation(Mending):
    """confirmed: whether the person said to give the old log up."""


@dataclass(frozen=True, slots=True)
class Incarnated:
    """This site goes on in another log; the others have to agree by signing the next roster."""

    log_id: bytes
    previous: bytes
    previous_size: int
    """Entries under the last known head of the old log …"""
    missing_from: int
    """… and the first of them that is lost; the same number if none is."""
    card: Path
    damaged: Path
    """Where the old files are now."""
    datasets: int
    """Carried over with what they have spent."""
    exhausted: int
    """Of those, whose whole cap counts as spent until the data manager decides."""
    asked: tuple[str, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is to be had of the old log: its verified entries, its last head, where it breaks."""

    entries: tuple[Entry, ...]
    note: bytes
    size: int
    missing_from: int


def new_incarnation(
    home: Home,
    request: NewIncarnation,
    *,
    now_us: Clock,
    random_bytes: RandomBytes,
    dial: Dial | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Incarnated:
    """Give the old log up and found the next. Raises OperatorError, LedgerError."""
    require_stopped(home)
    with hold_home(home, purpose="ledger new-incarnation"):
        settle_log_key(home)
        keys, roster = read_keys(home.keys), required_roster(home)
        own = own_log(home, keys, roster)
        if goes_on_already(own):
            raise newer_ledger(_renew_card(home).stem)  # the card, if the last run was cut short
        found = ask_enough(own, dial, request, tell)
        known = _known(own, found)
        if not request.confirmed:
            raise _unconfirmed(known)
        carried = carried_over(known.entries, own.log_id, known.missing_from, known.size)
        damaged, log_id = _found(own, known, carried, now_us, random_bytes)
        card = _renew_card(home)
    return Incarnated(
        log_id=log_id,
        previous=own.log_id,
        previous_size=known.size,
        missing_from=known.missing_from,
        card=card,
        damaged=damaged,
        datasets=carried.datasets,
        exhausted=carried.exhausted,
        asked=names_of(roster, found.collected.answered),
        silent=found.silent,
    )


def _known(own: OwnLog, found: Found) -> _Known:
    notes = [*found.notes, *_note_here(own)]
    note = max(notes, key=size_of, default=b"")
    size = size_of(note) if note else 0
    entries = tuple(_verified(own, all_entries(own, found)))
    missing_from = next(
        (place for place, entry in enumerate(entries) if entry.seq != place), len(entries)
    )
    return _Known(entries, note, size, min(missing_from, size))


def _note_here(own: OwnLog) -> Iterator[bytes]:
    """The last head that this home released, as far as its files can be read."""
    try:
        with closing(LogReader.open(own.home.path, on_damage=OnDamage.SHOW)) as reader:
            note = reader.note
    except LedgerError:
        return
    if is_own(own, note):
        yield note


def _verified(own: OwnLog, raws: Iterator[bytes]) -> Iterator[Entry]:
    """Each entry that one of the log's keys signed, by number; without a genesis entry, none."""
    identity: LogIdentity | None = None
    newest = -1
    for raw in raws:
        try:
            entry = parse_entry(raw)
            identity = identity or parse_genesis(raw)
            if entry.seq <= newest or identity.log_id != own.log_id:
                continue
            verify_entry(entry, identity)
            identity = follow(identity, entry)
        except LedgerError:
            continue
        newest = entry.seq
        yield entry


def _unconfirmed(known: _Known) -> OperatorError:
    lost = known.size - known.missing_from
    what = (
        f"{lost} of the old ledger's {known.size} entries would be given up, from entry "
        f"{known.missing_from} on"
        if lost
        else f"All {known.size} entries of the old ledger are known; it would be closed for good"
    )
    return OperatorError(
        f"{what}.",
        fix="Try `p2pfl ledger recover` first: it gives nothing up. Else say --yes; then every "
        "member has to sign the next roster, and studies are approved anew.",
        exit_code=EXIT_REFUSED,
    )


def _found(
    own: OwnLog, known: _Known, carried: Carried, now_us: Clock, random_bytes: RandomBytes
) -> tuple[Path, bytes]:
    """The new log in the home's place, under a log key of its own: the old one may be stolen."""
    home, seed = own.home, random_bytes(32)
    building = home.path / BUILDING
    shutil.rmtree(building, ignore_errors=True)
    keep_next_log_key(home, seed)
    _, policy_hash = read_policy(home.policy)
    with closing(
        Log.create(
            building,
            deployment=own.roster.consortium,
            identity=Signer(own.keys.identity),
            log=Signer(seed),
            witness_pk=Signer(own.keys.witness).public_key,
            nonce=random_bytes(32),
            now_us=now_us(),
            previous=Previous(own.log_id, known.note, known.missing_from),
        )
    ) as log:
        policy = kinds.PolicyChanged(policy_hash).draft("operator")
        drafts: tuple[Draft, ...] = (policy, *carried.drafts)
        log.append(drafts, now_us())
        log_id = bytes(log.log_id)
    damaged = put_in_place(home.path, building)
    shutil.rmtree(building, ignore_errors=True)
    settle_log_key(home)
    (home.keys / MARKER).unlink(missing_ok=True)
    return damaged, log_id


def _renew_card(home: Home) -> Path:
    """The site's card with its present log and keys."""
    config, keys = read_config(home.config), read_keys(home.keys)
    with closing(LogReader.open(home.path)) as reader:
        log_id = reader.log_id
    # Newer than any card that the others hold: they would keep to that.
    known = required_roster(home).member(keys.site).serial
    card = sign_card(
        keys,
        name=config.name,
        log_id=log_id,
        addresses=config.announce,
        serial=known + 1 if known else 0,
    )
    path = home.card(config.name)
    write_durably(path, encode_card(card), mode=0o644)
    return path
