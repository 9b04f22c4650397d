"""What is left of this site's own log: here on disk, and in the other sites' mirrors.

Responsible for asking, before anything is decided. Recovery and new incarnations use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from gossip.errors import TransportError
from gossip.identifiers import SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster
from gossip.transport import Transport
from ledger.log import (
    Checkpoint,
    KeyType,
    LedgerError,
    LogId,
    LogReader,
    OnDamage,
    Signer,
    VerifierKey,
    follow,
    note_verify,
    origin_of,
    parse_entry,
    verify_entry,
)
from ledger.log.entries import NO_PREVIOUS, verify_link
from ledger.log.genesis import parse_genesis
from ledger.log.notes import note_text
from ledger.log.recovery_files import Remains
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from p2pfl.core.witnessing_terms import witness_name, words_needed
from p2pfl.runtime.commands.backups import MARKER
from p2pfl.runtime.config import read_config
from p2pfl.runtime.control_call import node_is_running
from p2pfl.runtime.errors import EXIT_LOCKED, EXIT_REFUSED, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.mirror_session import Collected, MirrorSession, Wish, merged
from p2pfl.runtime.network_key import network_key_of
from p2pfl.runtime.policy import read_policy

WAIT_S: Final = 20.0
"""How long the other sites may take to be reached."""
NOTE_BYTES_MAX: Final = 64 * 1024

Dial = Callable[[SiteKeys, Roster, str], Transport]
"""What talks to the other sites; a test gives its own."""


@dataclass(frozen=True, slots=True)
class Mending:
    """confirmed: whether the person said to do it; fewer_ok: also on the word of few sites."""

    confirmed: bool
    fewer_ok: bool = False
    wait_s: float = WAIT_S


@dataclass(frozen=True, slots=True)
class OwnLog:
    """The log that the roster says is this site's.

    sound: its first entries that are whole here. log_keys: that these entries put in force."""

    home: Home
    keys: SiteKeys
    roster: Roster
    log_id: LogId
    sound: int
    log_keys: tuple[bytes, ...] = ()

    @property
    def origin(self) -> str:
        """Its name in checkpoints."""
        return origin_of(self.roster.consortium, self.log_id)

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """Under which its heads may be signed: as the roster, the log and the key's file say."""
        named = {self.roster.member(self.keys.site).log_pk, Signer(self.keys.log).public_key}
        public = sorted(named.union(self.log_keys))
        return tuple(VerifierKey(self.origin, KeyType.ED25519, pk) for pk in public)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is. silent: names of the members that could not be asked."""

    collected: Collected
    notes: tuple[bytes, ...]
    """Heads that this site signed, from others and from here."""
    silent: tuple[str, ...]
    verifier_keys: tuple[VerifierKey, ...]
    """Under which those heads are signed."""

    @property
    def size(self) -> int:
        """How many entries the largest of these heads covers."""
        return max((size_of(note) for note in self.notes), default=0)


def require_stopped(home: Home) -> None:
    """Raises OperatorError while a node runs: the log is about to be replaced under it."""
    if node_is_running(home):
        raise OperatorError(
            "The node of this home is running.",
            fix="Stop it first: `p2pfl node stop`.",
            exit_code=EXIT_LOCKED,
        )


def own_log(home: Home, keys: SiteKeys, roster: Roster, *, from_start: bool = False) -> OwnLog:
    """The own log and how much of it is whole on this disk. Raises OperatorError.

    from_start: take nothing here for whole, so that everything is asked of the others."""
    if keys.site not in roster:
        raise OperatorError(
            "The roster in force does not list this site: nobody mirrors its ledger.",
            fix="Put the roster of this consortium into `roster/current.roster` of the home.",
        )
    log_id = LogId(roster.member(keys.site).log_id)
    with closing(Remains(home.path)) as left:
        sound, log_keys = _sound(left.entries(), log_id)
    return OwnLog(home, keys, roster, log_id, 0 if from_start else sound, log_keys)


def _sound(raws: Iterator[bytes], log_id: LogId) -> tuple[int, tuple[bytes, ...]]:
    """How many entries are whole, up to one that does not prove itself; the keys in them."""
    identity, prev, sound = None, NO_PREVIOUS, 0
    for seq, raw in enumerate(raws):
        try:
            entry = parse_entry(raw)
            identity = identity or parse_genesis(raw)
            verify_entry(entry, identity)
            verify_link(entry, seq, prev)
            identity = follow(identity, entry)
        except LedgerError:
            break
        if identity.log_id != log_id:
            return 0, ()
        prev, sound = entry.leaf, seq + 1
    keys = () if identity is None else tuple(key.public_key for key in identity.keys)
    return sound, keys


def goes_on_already(own: OwnLog) -> bool:
    """Whether this home has a newer ledger than the one that the roster names."""
    try:
        with closing(LogReader.open(own.home.path, on_damage=OnDamage.SHOW)) as reader:
            return reader.log_id != own.log_id
    except LedgerError:
        return False


def ask_others(
    own: OwnLog, dial: Dial | None, *, wait_s: float, tell: Callable[[str], None]
) -> Found:
    """What the other sites hold of the own log; they are listened for in the node's place.

    Raises OperatorError if the address cannot be had."""
    wish = Wish(own.log_id, own.verifier_keys, own.sound, wait_s)
    config = read_config(own.home.config)
    dial = dial or dial_libp2p(network_key_of(own.home, config))

    async def ask() -> Collected:
        session = MirrorSession(own.keys, own.roster, wish)
        return await session.collect(dial(own.keys, own.roster, config.listen), tell)

    try:
        collected = asyncio.run(ask())
    except TransportError as error:
        raise OperatorError(
            f"The other sites cannot be asked: {error}.",
            fix="Free the address, or change `listen` in config.toml; is another node running?",
            exit_code=EXIT_UNAVAILABLE,
        ) from error
    heard = {*collected.answered, own.keys.site}
    silent = tuple(sorted(card.name for card in own.roster.members if card.site not in heard))
    keys = tuple(dict.fromkeys([*own.verifier_keys, *collected.log_keys]))
    return Found(collected, (*collected.notes, *_notes_here(own)), silent, keys)


def ask_enough(
    own: OwnLog, dial: Dial | None, request: Mending, tell: Callable[[str], None]
) -> Found:
    """As `ask_others`. Raises OperatorError if too few answer, unless the person is content."""
    found = ask_others(own, dial, wait_s=request.wait_s, tell=tell)
    _require_enough(own, found, fewer_ok=request.fewer_ok)
    return found


def _require_enough(own: OwnLog, found: Found, *, fewer_ok: bool) -> None:
    """Raises OperatorError unless so many sites answered that a longer history would be known.

    The count of the gate after a start (`words_needed`): who lies does not count here either."""
    false = _false_witnesses(own)
    faulty = read_policy(own.home.policy)[0].faulty_witnesses
    needed = words_needed(len(own.roster.members), faulty, len(false))
    answered = len({*found.collected.answered} - false - {*found.collected.liars})
    if answered >= needed or fewer_ok:
        return
    missing = f"; not reached: {', '.join(found.silent)}" if found.silent else ""
    raise OperatorError(
        f"Only {answered} of the {needed} sites that are needed could be asked{missing}.",
        fix="Ask them to start their nodes, then try again. --fewer-ok goes on without them: what "
        "only they have seen of this ledger would then be contradicted, which is a fork.",
        exit_code=EXIT_UNAVAILABLE if not answered else EXIT_REFUSED,
    )


def _false_witnesses(own: OwnLog) -> frozenset[SiteId]:
    """Other members that this home holds a proof against: they cosigned two histories."""
    if not (own.home.path / WITNESS_NAME).is_file():
        return frozenset()
    try:
        with closing(WitnessDatabase.open(own.home.path / WITNESS_NAME)) as book:
            accused = {key.name for key in book.accused_witnesses()}
    except LedgerError:
        return frozenset()  # damaged: then everybody is waited for
    others = (card for card in own.roster.members if card.site != own.keys.site)
    return frozenset(card.site for card in others if witness_name(card.site) in accused)


def all_entries(own: OwnLog, found: Found) -> Iterator[bytes]:
    """Raw entries by number, from here and from others; unverified."""
    with closing(Remains(own.home.path)) as left:
        yield from merged(found.collected.entries, left.entries())


def _notes_here(own: OwnLog) -> Iterator[bytes]:
    """Own heads as they are noted in this home: by the witness, and in a restored key backup."""
    candidates = []
    if (own.home.path / WITNESS_NAME).is_file():
        try:
            with closing(WitnessDatabase.open(own.home.path / WITNESS_NAME)) as book:
                held = book.head_of(own.log_id)
                candidates += [] if held is None else [held.note]
        except LedgerError:
            pass  # damaged or never asked: what others say counts
    if (own.home.keys / MARKER).is_file():
        _, _, note = read_bounded(own.home.keys / MARKER, NOTE_BYTES_MAX).partition(b"\n\n")
        candidates.append(note)
    yield from (note for note in candidates if is_own(own, note))


def is_own(own: OwnLog, note: bytes) -> bool:
    """Whether this site signed this as a head of its log."""
    try:
        return Checkpoint.parse(note_verify(note, *own.verifier_keys).text).origin == own.origin
    except LedgerError:
        return False


def size_of(note: bytes) -> int:
    """How many entries a head covers."""
    return Checkpoint.parse(note_text(note)).size


def names_of(roster: Roster, sites: tuple[SiteId, ...]) -> tuple[str, ...]:
    """Members by name."""
    return tuple(sorted(card.name for card in roster.members if card.site in sites))


def dial_libp2p(network_key: bytes | None) -> Dial:
    """The transport that nodes use. Loading it takes a second."""

    def dial(keys: SiteKeys, roster: Roster, listen: str) -> Transport:
        from gossip.libp2p_transport import Libp2pTransport

        return Libp2pTransport(keys.transport, roster, listen, network_key=network_key)

    return dial
