"""Signed notes, checkpoints and cosignatures, byte for byte."""

import json
from base64 import b64decode, b64encode

import pytest
from log_samples import LOG_KEY, STRANGER, WITNESS

from ledger.log import Checkpoint, KeyType, VerifierKey, cosign, errors, note_sign, note_verify
from ledger.log.notes import NOTE_BYTES_MAX, note_text

LOG = VerifierKey("log.example/a", KeyType.ED25519, LOG_KEY.public_key)
COSIGNER = VerifierKey("w.example", KeyType.COSIGNATURE_V1, WITNESS.public_key)
CHECKPOINT = Checkpoint("log.example/a", 7, bytes(range(32)))
NOTE = note_sign(CHECKPOINT.text, LOG.name, LOG_KEY)


def notes_of(path):
    return json.loads((path / "notes_and_witness.json").read_text())["notes"]


def test_public_note_vectors(vectors):
    cases = notes_of(vectors)
    assert len(cases) == 12
    for case in cases:
        keys = [VerifierKey.parse(text) for text in case["vkeys"]]
        if case["ok"]:
            assert note_verify(case["note"].encode(), *keys).signatures, case
        else:
            with pytest.raises(errors.NoteError):
                note_verify(case["note"].encode(), *keys)


def test_notes_that_go_accepted(vectors):
    case = json.loads((vectors / "ours/go-verified-note-and-proofs.json").read_text())
    log, witness = VerifierKey.parse(case["vkey"]), VerifierKey.parse(case["wvkey"])
    note = note_verify(case["note"].encode(), log, witness)
    assert [signature.key for signature in note.signatures] == [log, witness]
    assert note.signatures[0].time_s is None
    assert note.signatures[1].time_s == 1763700000
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == (log.name, 300)
    assert checkpoint.text == note.text
    assert str(log) == case["vkey"]


def test_a_head_with_a_cosignature_verifies_with_either_key():
    note = NOTE + cosign(CHECKPOINT.text, COSIGNER.name, WITNESS, 1_800_000_000)
    assert [s.time_s for s in note_verify(note, LOG, COSIGNER).signatures] == [None, 1_800_000_000]
    assert note_verify(note, COSIGNER).signatures[0].key == COSIGNER
    assert (
        Checkpoint.parse(note_verify(note, LOG).text)
        == CHECKPOINT
        == Checkpoint.parse(note_text(note))
    )


def test_a_cosignature_is_bound_to_its_time():
    line = cosign(CHECKPOINT.text, COSIGNER.name, WITNESS, 1_800_000_000)
    name, data = line.decode().split(" ")[1:]
    raw = bytearray(b64decode(data))
    raw[11] ^= 1
    forged = f"— {name} {b64encode(raw).decode()}\n".encode()
    with pytest.raises(errors.NoteSignatureInvalid):
        note_verify(NOTE + forged, COSIGNER)


def test_a_signature_counts_once_and_a_wrong_one_by_a_known_key_refuses_the_note():
    line = NOTE.split(b"\n\n")[1]
    assert len(note_verify(NOTE + line, LOG).signatures) == 1
    other = note_sign("another text\n", LOG.name, LOG_KEY).split(b"\n\n")[1]
    with pytest.raises(errors.NoteSignatureInvalid):
        note_verify(CHECKPOINT.text.encode() + b"\n" + other, LOG)
    short = f"— {LOG.name} {b64encode(LOG.key_id + b'x').decode()}\n".encode()
    with pytest.raises(errors.NoteSignatureInvalid):
        note_verify(CHECKPOINT.text.encode() + b"\n" + short, LOG)


def test_a_note_by_a_stranger_is_unsigned_to_us():
    stranger = VerifierKey(LOG.name, KeyType.ED25519, STRANGER.public_key)
    with pytest.raises(errors.NoteUnsigned):
        note_verify(NOTE, stranger)


@pytest.mark.parametrize(
    "note",
    [
        b"\xff\n\n",
        b"text\x00\n\n\xe2\x80\x94 n AAAAAAAA\n",
        b"text\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE.replace(b"\xe2\x80\x94", b"-"),
        NOTE.replace(b"\xe2\x80\x94 log.example/a ", b"\xe2\x80\x94 log+example "),
        NOTE.replace(b"\xe2\x80\x94 log.example/a ", b"\xe2\x80\x94  "),
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAB=\n",
        b"text\n\n\xe2\x80\x94 name !!!!\n",
        "text\n\n— name é\n".encode(),
        b"text\n\n" + b"\xe2\x80\x94 name AAAAAAAA\n" * 101,
    ],
)
def test_malformed_notes_are_refused_by_name(note):
    with pytest.raises(errors.NoteMalformed):
        note_verify(note, LOG)


def test_a_large_note_is_refused_before_it_is_parsed():
    with pytest.raises(errors.NoteTooLarge):
        note_verify(b"\xff" * (NOTE_BYTES_MAX + 1), LOG)


ROOT = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n9999999999999999999\n{ROOT}\n",
        f"o\n٣\n{ROOT}\n",
        "o\n1\nAAAA\n",
        "o\n1\n!\n",
        f"o\n1\n{ROOT}\nextension\n",
    ],
)
def test_malformed_checkpoints_are_refused(text):
    with pytest.raises(errors.CheckpointMalformed):
        Checkpoint.parse(text)


def test_the_empty_log_has_a_checkpoint():
    assert Checkpoint.parse(f"o\n0\n{ROOT}\n") == Checkpoint("o", 0, bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name+12345678",
        "name+12345678+",
        "name+12345678+!",
        "na me" + str(LOG)[len(LOG.name) :],
        "name+00000000+" + b64encode(b"\x02" + LOG_KEY.public_key).decode(),
        "name+00000000+" + b64encode(b"\x01" + LOG_KEY.public_key).decode(),
        "+" + str(LOG).split("+", 1)[1],
    ],
)
def test_malformed_verifier_keys_are_refused(text):
    with pytest.raises(errors.VerifierKeyMalformed):
        VerifierKey.parse(text)


def test_a_verifier_key_is_written_and_read():
    assert VerifierKey.parse(str(LOG)) == LOG
    assert VerifierKey.parse(str(COSIGNER)) == COSIGNER
    with pytest.raises(errors.KeyLowOrder):
        VerifierKey("name", KeyType.ED25519, bytes(32))
