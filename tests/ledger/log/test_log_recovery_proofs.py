"""Proof files that somebody hands over: inclusion (C2SP tlog-proof) and consistency."""

import json
from base64 import b64encode

import pytest
from log_histories import KEY, ORIGIN, WITNESS_KEY, History
from log_samples import LOG_KEY, STRANGER

from ledger.log import VerifierKey, errors, note_sign
from ledger.log.check_proof import (
    PROOF_BYTES_MAX,
    EntryNeeded,
    ProofFileMalformed,
    check_proof,
    consistency_file,
    inclusion_file,
)
from ledger.log.tree import prove_consistency, prove_inclusion

REAL = History(9, real=True)
KEYS = (KEY, WITNESS_KEY)
INCLUSION = inclusion_file(4, prove_inclusion(4, 9, REAL.node_at), REAL.cosigned())
CONSISTENCY = consistency_file(prove_consistency(5, 9, REAL.node_at), REAL.note(5), REAL.cosigned())


def test_the_file_that_go_accepted(vectors):
    case = json.loads((vectors / "ours/go-verified-note-and-proofs.json").read_text())
    keys = [VerifierKey.parse(case["vkey"]), VerifierKey.parse(case["wvkey"])]
    data = (vectors / "ours/example.tlog-proof").read_bytes()
    # Entry i of that log is its name and the bytes 0, 1 … (i mod 40) − 1.
    verdict = check_proof(data, keys, b"entry-42\x00\x01")
    assert (verdict.index, verdict.head.size) == (42, 300)
    assert [signature.key for signature in verdict.signatures] == keys


def test_an_entry_is_proven_to_be_in_the_log():
    verdict = check_proof(INCLUSION, KEYS, REAL.raws[4])
    assert (verdict.index, verdict.head, verdict.extra) == (4, REAL.head(), b"")
    assert [signature.key for signature in verdict.signatures] == list(KEYS)
    extra = INCLUSION.replace(b"index", b"extra " + b64encode(b"more") + b"\nindex")
    assert check_proof(extra, KEYS, REAL.raws[4]).extra == b"more"
    with pytest.raises(errors.RootMismatch):
        check_proof(INCLUSION, KEYS, REAL.raws[5])
    with pytest.raises(EntryNeeded):
        check_proof(INCLUSION, KEYS)


def test_a_log_is_proven_to_have_only_grown():
    verdict = check_proof(CONSISTENCY, KEYS)
    assert (verdict.older, verdict.newer) == (REAL.head(5), REAL.head())
    forked = History(9, branch=1, real=True)
    false = consistency_file(prove_consistency(5, 9, REAL.node_at), forked.note(5), REAL.note())
    with pytest.raises(errors.RootMismatch):
        check_proof(false, KEYS)


def test_heads_need_the_logs_own_signature():
    for keys in ((WITNESS_KEY,), ()):
        with pytest.raises(errors.NoteUnsigned):
            check_proof(INCLUSION, keys, REAL.raws[4])
    stranger = inclusion_file(4, (), REAL.note(signer=STRANGER))
    with pytest.raises(errors.NoteUnsigned):
        check_proof(stranger, KEYS, REAL.raws[4])


OTHER = note_sign(REAL.head().text.replace(ORIGIN, "other"), "other", LOG_KEY)
OTHER_KEY = VerifierKey("other", KEY.type, KEY.public_key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"x" * (PROOF_BYTES_MAX + 1),
        b"c2sp.org/tlog-proof@v2\n\n" + REAL.note(),
        b"c2sp.org/tlog-proof@v1\n\n" + REAL.note(),
        INCLUSION.replace(b"index 4", b"index 04"),
        INCLUSION.replace(b"index 4", b"extra !\nindex 4"),
        INCLUSION.replace(b"index 4\n", b"index 4\nAAAA\n"),
        INCLUSION.replace(b"index 4\n", b"index 4\n!\n"),
        inclusion_file(4, [bytes(32)] * 65, REAL.note()),
        CONSISTENCY + b"\n\n",
        consistency_file((), REAL.note(), OTHER),
    ],
)
def test_malformed_files_are_refused_by_name(data):
    with pytest.raises(ProofFileMalformed):
        check_proof(data, (*KEYS, OTHER_KEY), REAL.raws[4])
