"""Invitations, replies and what is said under their secret: read from bytes that anybody wrote."""

import base64
from dataclasses import replace

import pytest
from gossip_people import bytes_of, person
from mnemonic import Mnemonic

from gossip.card import encode_card
from gossip.errors import BadSeal, Garbled, InvitationInvalid, PeerError, TooLarge
from gossip.identifiers import Digest, SiteId
from gossip.invitation import (
    INVITATION_PREFIX,
    AdmissionState,
    Answer,
    Invitation,
    invitation_line,
    is_receipt,
    open_answer,
    open_ask,
    open_reply,
    read_invitation,
    read_reply_id,
    reply_line,
    seal_answer,
    seal_ask,
    seal_receipt,
)
from gossip.spoken import spoken

INVITATION = Invitation(
    consortium="test-hearts",
    inviter_pk=person(0).card.identity_pk,
    admission="node.hospital.example:7199",
    roster=Digest(bytes_of("roster")),
    secret=bytes_of("secret"),
    expires_s=1_800_000_000,
)
OTHER = replace(INVITATION, secret=bytes_of("another secret"))
ASKED = bytes(range(16))


def counted(count: int) -> bytes:
    return bytes_of("random")[:count].ljust(count, b"r")


def test_the_words_are_those_of_bip_39() -> None:
    # 128 bits make twelve words there; the first eight of them are the first 88 bits.
    for label in ("north", "east", "south", "west"):
        site = SiteId(bytes_of(label))
        assert spoken(site).split() == Mnemonic("english").to_mnemonic(site[:16]).split()[:8]


def test_an_invitation_survives_mail_that_breaks_and_indents_lines() -> None:
    line = invitation_line(INVITATION)
    assert read_invitation(line) == INVITATION
    assert read_invitation(f"  {line[:40]}\r\n\t{line[40:80]}\n {line[80:]}\n") == INVITATION
    assert read_invitation(invitation_line(replace(INVITATION, admission=""))).admission == ""


def test_the_secret_is_not_in_what_a_log_would_show() -> None:
    assert INVITATION.secret.hex() not in repr(INVITATION)
    assert repr(INVITATION.secret) not in repr(INVITATION)


def test_an_invitation_with_any_wrong_missing_or_further_character_is_refused() -> None:
    line = invitation_line(INVITATION)
    for at in range(len(line)):
        for wrong in (line[:at] + line[at + 1 :], line[:at] + "~" + line[at + 1 :]):
            with pytest.raises(PeerError):
                read_invitation(wrong)
        other = "A" if line[at] != "A" else "B"
        if at < len(line) - 1:  # the last one holds bits that are not used
            with pytest.raises(PeerError):
                read_invitation(line[:at] + other + line[at + 1 :])
    for wrong in (line + "AAAA", line + line, "", " ", INVITATION_PREFIX, "p2pfl-invitation-2.AA"):
        with pytest.raises(PeerError):
            read_invitation(wrong)
    with pytest.raises(TooLarge):
        read_invitation(line + " " * 10_000)


@pytest.mark.parametrize("mark", ["", "> ", ">> ", ">"])
def test_a_line_that_a_mail_program_wrapped_and_quoted_is_read(mark: str) -> None:
    line = invitation_line(INVITATION)
    rows = [line[at : at + 70] for at in range(0, len(line), 70)]
    assert read_invitation("".join(f"{mark}{row}\r\n" for row in rows)) == INVITATION


def test_a_checksum_does_not_make_nonsense_an_invitation() -> None:
    import hashlib

    for body in (b"\x00", b"\x97\x01", bytes(300), b"\x97" + bytes(200)):
        check = hashlib.sha256(b"p2pfl/line/v1\0" + body).digest()[:4]
        text = base64.urlsafe_b64encode(body + check).decode().rstrip("=")
        with pytest.raises(PeerError):
            read_invitation(INVITATION_PREFIX + text)


def test_a_reply_is_opened_by_the_inviter_alone() -> None:
    card = person(4).card
    line = reply_line(INVITATION, card, counted)
    assert read_reply_id(line) == INVITATION.id
    assert open_reply(INVITATION, line) == card
    with pytest.raises(BadSeal):
        open_reply(OTHER, line)
    hidden = base64.urlsafe_b64decode(line.partition(".")[2] + "==")
    assert card.identity_pk not in hidden
    assert INVITATION.secret not in hidden


def test_an_answer_to_another_question_is_a_replay() -> None:
    box = seal_answer(INVITATION.secret, ASKED, Answer(AdmissionState.IN_FORCE, b"chain"), counted)
    assert open_answer(INVITATION.secret, ASKED, box) == Answer(AdmissionState.IN_FORCE, b"chain")
    with pytest.raises(InvitationInvalid):
        open_answer(INVITATION.secret, bytes(16), box)
    with pytest.raises(BadSeal):
        open_answer(OTHER.secret, ASKED, box)


def test_what_one_side_says_is_nothing_the_other_side_could_have_said() -> None:
    secret, card = INVITATION.secret, person(4).card
    ask = seal_ask(secret, ASKED, card, counted)
    assert open_ask(secret, ask) == (ASKED, card)
    answer = seal_answer(secret, ASKED, Answer(AdmissionState.WAITING), counted)
    with pytest.raises(BadSeal):
        open_ask(secret, answer)
    with pytest.raises(BadSeal):
        open_answer(secret, ASKED, ask)
    receipt = seal_receipt(secret, ASKED, counted)
    assert is_receipt(secret, ASKED, receipt)
    for wrong in (is_receipt(secret, bytes(16), receipt), is_receipt(OTHER.secret, ASKED, receipt)):
        assert not wrong
    with pytest.raises(Garbled):
        open_ask(secret, receipt)


def test_boxes_that_were_cut_or_changed_are_refused() -> None:
    box = seal_ask(INVITATION.secret, ASKED, person(4).card, counted)
    for end in range(len(box)):
        with pytest.raises(PeerError):
            open_ask(INVITATION.secret, box[:end])
    for at in range(0, len(box), 7):
        changed = bytearray(box)
        changed[at] ^= 1
        with pytest.raises(BadSeal):
            open_ask(INVITATION.secret, bytes(changed))
    assert len(encode_card(person(4).card)) < len(box)
