"""What somebody who holds an invitation, or only saw one, may write: its insides, mutated, under
good checksums and seals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gossip_people import CONSORTIUM, people

from gossip import invitation as inv
from gossip.card import encode_card
from gossip.errors import PeerError
from gossip.identifiers import Digest
from gossip.wire import pack

SECRET = bytes(range(32))
ASKED = bytes(range(16))


@dataclass(frozen=True, slots=True)
class Sealed:
    """corpus: good insides. run: puts others into their place and has them read."""

    corpus: Sequence[bytes]
    run: Callable[[bytes], None]


def _nonce(count: int) -> bytes:
    return bytes(count)


def _invited() -> list[bytes]:
    inviter_pk = people(1)[0].card.identity_pk
    return [
        pack((1, CONSORTIUM, inviter_pk, where, Digest(bytes(32)), SECRET, 1_800_000_000))
        for where in ("", "192.0.2.7:7101")
    ]


def _invitation(raw: bytes) -> None:
    line = inv._line(inv.INVITATION_PREFIX, raw)
    if inv.invitation_line(inv.read_invitation(line)) != line:
        raise AssertionError("two spellings of one invitation")


def _ask(raw: bytes) -> None:
    asked, card = inv.open_ask(SECRET, inv._seal(SECRET, "ask", raw, _nonce))
    if pack((1, asked, encode_card(card))) != raw:
        raise AssertionError("two spellings of one question")


def _answer(raw: bytes) -> None:
    answer = inv.open_answer(SECRET, ASKED, inv._seal(SECRET, "answer", raw, _nonce))
    if pack((1, ASKED, answer.state.value, answer.chain)) != raw:
        raise AssertionError("two spellings of one answer")


def _unsealed(raw: bytes) -> None:
    """Whoever has not got the secret is refused, whatever it writes."""
    try:
        inv.open_ask(SECRET, raw)
    except PeerError:
        if inv.is_receipt(SECRET, ASKED, raw):
            raise AssertionError("a receipt that nobody gave") from None
        raise
    raise AssertionError("a question that nobody asked")


def invitations() -> Mapping[str, Sealed]:
    """By name."""
    card = people(1)[0].card
    ask = pack((1, ASKED, encode_card(card)))
    answers = [
        pack((1, ASKED, state.value, chain))
        for state in inv.AdmissionState
        for chain in (b"", b"chain")
    ]
    other = inv._seal(bytes(32), "ask", ask, _nonce)
    return {
        "invitation": Sealed(_invited(), _invitation),
        "question of a new site": Sealed([ask], _ask),
        "answer to a new site": Sealed(answers, _answer),
        "box of a stranger": Sealed([other], _unsealed),
    }
