"""The published vectors of witnessing are what the code makes, and hold for any other reader.

All but the first two tests use hashlib, msgpack and PyNaCl alone, as another reader would."""

import hashlib
import json
import runpy
from base64 import b64decode
from pathlib import Path

import msgpack
import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from ledger.log import LedgerError, check_fork

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT / "tests" / "vectors" / "ledger" / "forks.json"
DOCUMENT = json.loads(VECTORS.read_text("utf-8"))
HELD = {case["name"]: case for case in DOCUMENT["forks"]["holds"]}


def test_the_vectors_are_what_the_code_makes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    script = runpy.run_path(str(ROOT / "scripts" / "fork_vectors.py"))
    assert json.loads(json.dumps(script["document"]())) == DOCUMENT


@pytest.mark.parametrize("case", DOCUMENT["forks"]["fails"], ids=lambda case: case["why"])
def test_what_proves_nothing_is_refused(case):
    with pytest.raises(LedgerError) as caught:
        check_fork(bytes.fromhex(case["file"]))
    assert type(caught.value).__name__ == case["rule"]


# --- another implementation ---------------------------------------------------------------------


def public_key(vkey):
    name, key_id, key = vkey.split("+", 2)
    data = b64decode(key)
    expected = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    assert expected.hex() == key_id
    return name, data[0], VerifyKey(data[1:]), expected


def signed(note, vkey):
    """(size, root) of a note, if this key signed or cosigned it."""
    name, kind, key, key_id = public_key(vkey)
    text, _, lines = note.rpartition("\n\n")
    text += "\n"
    origin, size, root, _ = text.split("\n")
    for line in lines.splitlines():
        dash, signer, data = line.split(" ")
        stated = b64decode(data)
        if (dash, signer, stated[:4]) == ("—", name, key_id):
            if kind == 1:
                assert origin == name
                key.verify(text.encode(), stated[4:])
            else:
                time_s = int.from_bytes(stated[4:12], "big")
                key.verify(f"cosignature/v1\ntime {time_s}\n{text}".encode(), stated[12:])
            return int(size), b64decode(root)
    raise AssertionError("not signed by this key")


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def roots(m, n, path):
    """RFC 6962 section 2.1.2 read backwards: the roots at m and n that a path leads to."""
    if m == n:
        (subtree,) = path
        return subtree, subtree
    k = 1 << ((n - 1).bit_length() - 1)
    *before, last = path
    if m <= k:
        older, newer = roots(m, k, before)
        return older, node(newer, last)
    older, newer = roots(m - k, n - k, before)
    return node(last, older), node(last, newer)


def parts(name):
    return msgpack.unpackb(bytes.fromhex(HELD[name]["file"]))


def test_each_file_is_named_by_its_digest():
    for case in HELD.values():
        data = bytes.fromhex(case["file"])
        assert hashlib.sha256(data).hexdigest() == case["digest"]
        assert list(msgpack.unpackb(data)) == sorted(msgpack.unpackb(data))


@pytest.mark.parametrize("name", ["K1", "K4"])
def test_two_heads_of_one_size_differ(name):
    proof = parts(name)
    (vkey,) = proof["keys"]
    first, second = (signed(proof[side].decode(), vkey) for side in ("first", "second"))
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert [first[0], second[0]] == HELD[name]["sizes"]


@pytest.mark.parametrize("name", ["K2", "K2 over a replaced key"])
def test_the_newer_heads_tree_has_another_root_at_the_older_size(name):
    proof = parts(name)
    older, newer = (
        signed(proof[side].decode(), vkey)
        for side, vkey in (("first", proof["keys"][0]), ("second", proof["keys"][-1]))
    )
    seen_older, seen_newer = roots(older[0], newer[0], proof["path"])
    assert seen_newer == newer[1]
    assert seen_older != older[1]
    assert bool(proof["lineage"]) == (len(proof["keys"]) > 1)


def entry_of(raw, vkey):
    """The body of an entry, if this key signed it."""
    body, key_id, signature = msgpack.unpackb(raw)
    _, _, key, expected = public_key(vkey)
    assert key_id == expected
    key.verify(b"dl-ledger/entry/v1\0" + body, signature)
    return msgpack.unpackb(body)


def test_two_entries_of_one_number_differ():
    proof = parts("K3")
    first, second = (entry_of(proof[side], proof["keys"][0]) for side in ("first", "second"))
    assert (first["l"], first["s"]) == (second["l"], second["s"])
    assert proof["first"] != proof["second"]


def test_a_key_is_replaced_by_the_identitys_word():
    told = DOCUMENT["rotation"]
    genesis, change = (entry_of(bytes.fromhex(raw), told["vkeys"][0]) for raw in told["entries"])
    identity = genesis["b"]["identity_pk"]
    assert (
        genesis["l"]
        == hashlib.sha256(b"dl-ledger/log-id/v1\0" + identity + genesis["b"]["nonce"]).digest()
    )
    said = {
        "key": "log",
        "log_id": genesis["l"],
        "new": change["b"]["new"],
        "old": change["b"]["old"],
    }
    VerifyKey(identity).verify(
        b"dl-ledger/rotation/v1\0" + msgpack.packb(said), change["b"]["statement"]
    )
    assert change["s"] == told["rotated_at"]
    # The head over the change is the new key's first, and the old key signs none of that size.
    assert signed(told["notes"][0], told["vkeys"][0])[0] == told["rotated_at"]
    size, _ = signed(told["notes"][1], told["vkeys"][1])
    assert size > told["rotated_at"]
    with pytest.raises((AssertionError, BadSignatureError)):
        signed(told["notes"][1], told["vkeys"][0])


def test_a_witness_answers_in_the_protocols_words():
    answers = DOCUMENT["cosigning"]
    assert [answer["status"] for answer in answers] == [
        200, 200, 200, 409, 400, 422, 404, 403, 400, 422,
    ]  # fmt: skip
    for answer in answers:
        note = answer["request"].partition("\n\n")[2]
        if answer["status"] == 200:
            size, _ = signed(note + answer["body"], DOCUMENT["witness"])
            assert answer["request"].startswith("old ")
            assert size in (2, 5)
        if answer["status"] == 409:
            assert answer["body"] == "5\n"
