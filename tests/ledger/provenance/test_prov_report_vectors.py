"""The published vectors of the ledger are what the code makes, and hold for any other reader.

The second half uses hashlib and PyNaCl alone, as another implementation would."""

import hashlib
import json
import runpy
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import VerifyKey

from ledger.log import LedgerError, decode, parse_entry

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT / "tests" / "vectors" / "ledger" / "ledger.json"


@pytest.fixture(scope="module")
def vectors() -> Any:
    return json.loads(VECTORS.read_text("utf-8"))


def test_the_vectors_are_what_the_code_makes(vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    script = runpy.run_path(str(ROOT / "scripts" / "ledger_vectors.py"))
    assert json.loads(json.dumps(script["document"]())) == vectors


def test_what_is_no_dm1_and_no_entry_is_refused(vectors: Any) -> None:
    for raw in vectors["dm1"]["good"]:
        decode(bytes.fromhex(raw))
    for raw in vectors["dm1"]["bad"].values():
        with pytest.raises(LedgerError):
            decode(bytes.fromhex(raw))
    for case in vectors["bad_entries"]:
        with pytest.raises(LedgerError) as caught:
            parse_entry(bytes.fromhex(case["raw"]))
        assert type(caught.value).__name__ == case["rule"]


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, literally."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def path_of(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1, literally."""
    if len(leaves) == 1:
        return []
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    if m < k:
        return [*path_of(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path_of(m - k, leaves[k:]), tree_hash(leaves[:k])]


def test_a_second_implementation_agrees(vectors: Any) -> None:
    log = vectors["log"]
    leaves, previous = [], bytes(32)
    for entry in log["entries"]:
        raw = bytes.fromhex(entry["raw"])
        assert bytes.fromhex(entry["prev"]) == previous
        previous = hashlib.sha256(b"\0" + raw).digest()
        leaves.append(previous)
        assert entry["leaf"] == previous.hex()
    for size, root in enumerate(log["roots"]):
        assert tree_hash(leaves[:size]).hex() == root
    for proof in log["inclusion"]:
        assert [node.hex() for node in path_of(proof["i"], leaves)] == proof["proof"]
    text, lines = log["note"].split("\n\n")
    text += "\n"
    assert text == f"{log['origin']}\n{len(leaves)}\n{b64encode(tree_hash(leaves)).decode()}\n"
    own, cosigned = (b64decode(line.split(" ")[2]) for line in lines.strip().split("\n"))
    name, key_id, key = log["vkey"].split("+", 2)
    public = b64decode(key)[1:]
    assert own[:4].hex() == key_id
    assert hashlib.sha256(f"{name}\n".encode() + b"\1" + public).digest()[:4] == own[:4]
    VerifyKey(public).verify(text.encode(), own[4:])
    time_s = int.from_bytes(cosigned[4:12], "big")
    witness = b64decode(log["wvkey"].split("+", 2)[2])[1:]
    message = f"cosignature/v1\ntime {time_s}\n{text}".encode()
    VerifyKey(witness).verify(message, cosigned[12:])
