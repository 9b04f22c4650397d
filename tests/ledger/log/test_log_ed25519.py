"""Ed25519: one verifier, and public keys that prove nothing are refused."""

import json

import pytest
from log_samples import STRANGER

from ledger.log import Signer, admit_public_key, errors, verify

PRIME = 2**255 - 19
ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021540


def key(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def test_wycheproof_vectors(vectors):
    path = vectors / "wycheproof-ed25519/testvectors_v1/ed25519_test.json"
    tests = 0
    for group in json.loads(path.read_text())["testGroups"]:
        public_key = bytes.fromhex(group["publicKey"]["pk"])
        for test in group["tests"]:
            message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            assert verify(public_key, message, signature) == (test["result"] == "valid"), test
            tests += 1
    assert tests == 151


def test_a_signature_verifies_with_its_message_and_key_only():
    signer = Signer(b"\x09" * 32)
    signature = signer.sign(b"message")
    assert verify(signer.public_key, b"message", signature)
    assert not verify(signer.public_key, b"massage", signature)
    assert not verify(STRANGER.public_key, b"message", signature)
    assert not verify(signer.public_key, b"message", signature[:-1])
    assert not verify(signer.public_key[:-1], b"message", signature)


@pytest.mark.parametrize("y", [0, 1, PRIME - 1, ORDER_8_Y, PRIME - ORDER_8_Y])
@pytest.mark.parametrize("sign", [0, 1])
def test_low_order_keys_are_refused(y, sign):
    with pytest.raises(errors.KeyLowOrder):
        admit_public_key(key(y, sign))


@pytest.mark.parametrize("y", [PRIME, PRIME + 1, 2**255 - 1])
def test_keys_that_are_not_canonical_are_refused(y):
    with pytest.raises(errors.KeyNotCanonical):
        admit_public_key(key(y))


def test_keys_off_the_curve_and_of_wrong_length_are_refused():
    with pytest.raises(errors.KeyNotOnCurve):
        admit_public_key(key(2))
    with pytest.raises(errors.KeyLengthWrong):
        admit_public_key(b"\x01" * 31)
    with pytest.raises(errors.KeyLengthWrong):
        Signer(b"short")


def test_honest_keys_are_admitted_and_a_signer_never_shows_its_seed():
    assert admit_public_key(STRANGER.public_key) == STRANGER.public_key
    assert (b"\x04" * 32).hex() not in repr(STRANGER)
    assert STRANGER.public_key.hex() in repr(STRANGER)
