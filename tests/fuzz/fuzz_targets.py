"""What reads bytes that another site wrote, each with good bytes and what it may answer bad ones.

A target's `run` raises whatever the reader raises; beyond that it checks what must hold of bytes
that were taken: they are the only spelling of their meaning, and nobody but their author can have
signed them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from core_attackers import FIVE, Attacker
from core_worlds import started
from fuzz_invitations import invitations
from gossip_people import CONSORTIUM, founded, people
from gossip_votes import about_rosters, newer_card, vote
from ops_manifests import rendered

from gossip import ed25519
from gossip.blob_protocol import (
    BlobProtocolError,
    Request,
    Status,
    decode_answer,
    decode_request,
    encode_request,
)
from gossip.card import decode_card, encode_card
from gossip.dissemination import Dissemination
from gossip.dissemination_events import Connected, Received
from gossip.envelope import open_envelope
from gossip.errors import PeerError
from gossip.identifiers import Digest
from gossip.libp2p_push import FrameError, FrameReader
from gossip.messages import Decision, decode_message, encode_message
from gossip.roster import decode_roster, encode_roster
from gossip.roster_chain import (
    Chain,
    Link,
    decode_chain,
    decode_link,
    encode_chain,
    encode_link,
    verify_link,
)
from gossip.roster_change import decode_change, encode_change
from gossip.roster_messages import ItemKind, RosterHeld, RosterItem, RosterItems, RosterWanted
from gossip.roster_votes import decode_statement, encode_statement, verify_statement
from ledger.log import LedgerError
from ledger.log.dm1 import decode, encode
from ledger.log.entries import parse_entry
from ledger.log.fork_proofs import decode_fork
from ledger.log.notes import note_text, signature_lines
from ledger.log.witness import parse_request
from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.membership import Membership
from p2pfl.core.membership_terms import Met, OwnWord, Said
from p2pfl.learning.errors import ModelRefused
from p2pfl.learning.vector import decode_vector, encode_vector
from p2pfl.runtime.blobs import vector_of
from p2pfl.runtime.errors import BlobError
from p2pfl.runtime.jsonable import Json

VECTORS = Path(__file__).parent.parent / "vectors"
MEMBERS = 3
PARAMETERS = 40


@dataclass(frozen=True, slots=True)
class Target:
    """run: takes bytes. refusals: the errors with which it may refuse them."""

    name: str
    corpus: Sequence[bytes]
    run: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]


def _holds(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def _vectors(path: str) -> dict[str, Json]:
    found: dict[str, Json] = json.loads((VECTORS / path).read_text())
    return found


def _hex_strings(value: Json) -> list[bytes]:
    """Every hexadecimal string in a file of vectors, and every note in it."""
    if isinstance(value, dict):
        return [raw for each in value.values() for raw in _hex_strings(each)]
    if isinstance(value, list):
        return [raw for each in value for raw in _hex_strings(each)]
    if isinstance(value, str) and value:
        try:
            return [bytes.fromhex(value)]
        except ValueError:
            return [value.encode()]
    return []


def _taken(corpus: Sequence[bytes], run: Callable[[bytes], object]) -> list[bytes]:
    """Those of the corpus that a reader takes: the others teach a mutator little."""
    good = []
    for raw in corpus:
        try:
            run(raw)
        except Exception:  # noqa: S112 - whatever it is, it is no good example
            continue
        good.append(raw)
    return good


# -- gossip ------------------------------------------------------------------------------------


def _sealed() -> list[bytes]:
    opened = _vectors("gossip/envelopes.json")["opened"]
    assert isinstance(opened, list)
    return [bytes.fromhex(each["raw"]) for each in opened if isinstance(each, dict)]  # type: ignore[arg-type]


def _messages() -> list[bytes]:
    roster = founded(MEMBERS)
    return [encode_message(open_envelope(raw, roster).message) for raw in _sealed()]


def _message(raw: bytes) -> None:
    _holds(encode_message(decode_message(raw)) == raw, "two spellings of one message")


def _envelope(good: frozenset[bytes]) -> Callable[[bytes], None]:
    roster = founded(MEMBERS)

    def run(raw: bytes) -> None:
        open_envelope(raw, roster)
        _holds(raw in good, "an envelope that nobody sealed")

    return run


def _card(good: frozenset[bytes]) -> Callable[[bytes], None]:
    def run(raw: bytes) -> None:
        _holds(encode_card(decode_card(raw)) == raw, "two spellings of one card")
        _holds(raw in good, "a card that nobody signed")

    return run


def _roster(raw: bytes) -> None:
    roster = decode_roster(raw)
    _holds(encode_roster(roster) == raw, "two spellings of one roster")
    _holds(set(roster.signatures) <= set(roster.sites), "a stranger's signature")


def _change(raw: bytes) -> None:
    _holds(encode_change(decode_change(raw)) == raw, "two spellings of one change")


def _statement(raw: bytes) -> None:
    statement = decode_statement(raw)
    _holds(encode_statement(statement) == raw, "two spellings of one statement")
    verify_statement(statement, vote().roster)
    _holds(statement in (*vote().statements, vote().close), "a statement that nobody made")


def _link(raw: bytes) -> None:
    link = decode_link(raw)
    _holds(encode_link(link) == raw, "two spellings of one link")
    verify_link(vote().roster, link)
    _holds(link in (vote().voted, vote().unanimous), "a roster that nobody voted for")


def _chain(raw: bytes) -> None:
    _holds(encode_chain(decode_chain(raw)) == raw, "two spellings of one chain")


def _membership() -> Callable[[bytes], None]:
    """A member sends whatever it likes about the roster."""
    alice, bob, _ = people(MEMBERS)
    roster = founded(MEMBERS)
    chain = Chain(roster, (), (roster,))

    def run(raw: bytes) -> None:
        machine = Membership(bob.site, bob.keys.identity, chain, OwnWord(2))
        machine.handle(0.0, Met(alice.site))
        message = decode_message(raw)
        if isinstance(message, RosterHeld | RosterWanted | RosterItems):
            machine.handle(1.0, Said(alice.site, message))

    return run


def _about_rosters() -> list[bytes]:
    made = vote()
    things = [
        (ItemKind.CHANGE, encode_change(made.change)),
        (ItemKind.LINK, encode_link(made.voted)),
        (ItemKind.CARD, encode_card(newer_card(0))),
        (ItemKind.STATEMENT, encode_statement(made.close)),
    ]
    told = [RosterItems((RosterItem(*thing),)) for thing in things]
    return [encode_message(message) for message in (*about_rosters(), *told)]


def _frames(raw: bytes) -> None:
    whole, pieces = FrameReader(), FrameReader()
    at_once = list(whole.feed(raw))
    one_by_one = [
        frame for start in range(0, len(raw), 7) for frame in pieces.feed(raw[start : start + 7])
    ]
    _holds(at_once == one_by_one, "how bytes arrive changes what they say")


def _blob_request(raw: bytes) -> None:
    whole = raw[:44].ljust(44, b"\0")
    _holds(encode_request(decode_request(whole)) == whole, "two spellings of one request")


def _blob_answer(raw: bytes) -> None:
    answer = decode_answer(raw[:5].ljust(5, b"\0"), asked=1000)
    _holds(answer.length == (1000 if answer.status is Status.SERVED else 0), "an unasked length")


def _dissemination() -> Callable[[bytes], None]:
    """A member seals whatever it likes: its mutated message, under its own good signature."""
    alice, bob, _ = people(MEMBERS)
    machine = Dissemination(
        site=bob.site,
        transport_seed=bob.keys.transport,
        roster=founded(MEMBERS),
        random=lambda: 0.5,
    )
    machine.handle(0.0, Connected(alice.site))
    name = CONSORTIUM.encode()
    start = b"\x93\x01\xc4\x20" + alice.site
    domain = b"p2pfl/envelope/v1\0" + len(name).to_bytes(2, "big") + name
    clock = iter(range(1, 2**31))

    def run(raw: bytes) -> None:
        body = start + raw
        sealed = ed25519.sign(alice.keys.transport, domain + body) + body
        machine.handle(float(next(clock)), Received(alice.site, sealed))

    return run


# -- ledger, studies, models ---------------------------------------------------------------------


def _dm1(raw: bytes) -> None:
    _holds(encode(decode(raw)) == raw, "two spellings of one value")


def _entry(raw: bytes) -> None:
    _holds(parse_entry(raw).raw == raw, "an entry that is not its bytes")


def _note(raw: bytes) -> None:
    text = note_text(raw)
    _holds(raw.startswith(text.encode()), "a note whose text is not its beginning")
    signature_lines(raw)


def _vector_bytes() -> bytes:
    return encode_vector(np.linspace(-1, 1, PARAMETERS, dtype=np.float32))


def _vector(raw: bytes) -> None:
    try:
        vector = decode_vector(raw, PARAMETERS)
    except ModelRefused:
        _holds(_is_refused(raw), "the node takes what its training process refuses")
        raise
    _holds(np.array_equal(vector_of(raw, PARAMETERS), vector), "two readings of one model")
    _holds(encode_vector(vector) == raw, "two spellings of one model")


def _is_refused(raw: bytes) -> bool:
    try:
        vector_of(raw, PARAMETERS)
    except BlobError:
        return True
    return False


def _core() -> Callable[[bytes], None]:
    """The core of a site in a running study is told a member's mutated messages."""
    story = started(seed=5, terms=FIVE)
    story.wait(1.0)
    victim, *_, enemy = story.sites
    attacker = Attacker(story, enemy)

    def run(raw: bytes) -> None:
        attacker.says(victim, decode_message(raw))

    return run


def _core_messages() -> list[bytes]:
    """Messages about the study that the core of `_core` is in."""
    story = started(seed=5, terms=FIVE)
    attacker = Attacker(story, story.sites[-1])
    about = [attacker.decision(), attacker.decision(Decision.REVOKED, seq=3)]
    updates = [attacker.update(round_) for round_ in range(3)]
    return [encode_message(each) for each in (*about, *updates)] + _messages()


@cache
def _strings() -> list[bytes]:
    found = [_hex_strings(_vectors(f"ledger/{name}.json")) for name in ("ledger", "forks")]
    return found[0] + found[1]


def _ledger(name: str, run: Callable[[bytes], object]) -> Target:
    """Its examples are those of the ledger's vectors that the reader takes."""
    return Target(name, _taken(_strings(), run), lambda raw: void(run(raw)), (LedgerError,))


def _request() -> bytes:
    return encode_request(Request(Digest(hashlib.sha256(b"x").digest()), 0, 1000))


def _pushed() -> bytes:
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in _sealed()[:3])


def _cards() -> list[bytes]:
    return [encode_card(each.card) for each in people(MEMBERS)]


def _statements() -> list[bytes]:
    return [encode_statement(each) for each in (*vote().statements, vote().close)]


def _links() -> list[Link]:
    return [vote().voted, vote().unanimous]


def _gossip(name: str, corpus: Sequence[bytes], run: Callable[[bytes], None]) -> Target:
    return Target(name, corpus, run, (PeerError,))


def _blob(name: str, corpus: Sequence[bytes], run: Callable[[bytes], None]) -> Target:
    return Target(name, corpus, run, (BlobProtocolError,))


_MAKING: Mapping[str, Callable[[], Target]] = {
    "message": lambda: _gossip("message", _messages(), _message),
    "envelope": lambda: _gossip("envelope", _sealed(), _envelope(frozenset(_sealed()))),
    "dissemination": lambda: Target("dissemination", _messages(), _dissemination(), ()),
    "card": lambda: _gossip("card", _cards(), _card(frozenset(_cards()))),
    "roster": lambda: _gossip("roster", [encode_roster(founded(MEMBERS))], _roster),
    "roster change": lambda: _gossip("roster change", [encode_change(vote().change)], _change),
    "statement": lambda: _gossip("statement", _statements(), _statement),
    "link": lambda: _gossip("link", [encode_link(x) for x in _links()], _link),
    "chain": lambda: _gossip("chain", [encode_chain(vote().chain)], _chain),
    "membership": lambda: _gossip("membership", _about_rosters(), _membership()),
    "push frames": lambda: Target("push frames", [_pushed()], _frames, (FrameError,)),
    "blob request": lambda: _blob("blob request", [_request()], _blob_request),
    "blob answer": lambda: _blob("blob answer", [b"\0\0\0\x03\xe8", b"\2\0\0\0\0"], _blob_answer),
    "dm1": lambda: _ledger("dm1", _dm1),
    "entry": lambda: _ledger("entry", _entry),
    "note": lambda: _ledger("note", _note),
    "fork": lambda: _ledger("fork", decode_fork),
    "cosign request": lambda: _ledger("cosign request", parse_request),
    "model file": lambda: Target("model file", [_vector_bytes()], _vector, (ModelRefused,)),
    "manifest": lambda: Target("manifest", [rendered()], _manifest, (ManifestError,)),
    "core": lambda: _gossip("core", _core_messages(), _core()),
}
NAMES = (*_MAKING, *invitations())


@cache
def target(name: str) -> Target:
    """One of them, with its good bytes."""
    sealed = invitations().get(name)
    made = _gossip(name, sealed.corpus, sealed.run) if sealed else _MAKING[name]()
    assert made.corpus, f"{name} has no good bytes"
    return made


def _manifest(raw: bytes) -> None:
    parse_manifest(raw)


def void(_value: object) -> None:
    """Only that it was taken counts."""
