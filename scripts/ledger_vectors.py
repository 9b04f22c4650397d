"""Print the ledger's test vectors: what a second implementation must produce and refuse.

    .venv/bin/python scripts/ledger_vectors.py > tests/vectors/ledger/ledger.json

Everything follows from the seeds in it. The keys are well known: never use them."""

import json
import tempfile
from pathlib import Path

import msgpack

from ledger.log import (
    Draft,
    KeyType,
    LedgerError,
    Log,
    Signer,
    VerifierKey,
    commitment_of,
    cosign,
    encode,
    parse_entry,
)

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
ENTRIES = 9
Json = dict[str, object]


def dm1_vectors() -> Json:
    """Values and their one encoding, and bytes that are no dm1."""
    good = ({}, {"a": 1, "b": [True, "é", b"\1"]}, [], -1, 2**63 - 1, "x" * 40, {"z_9": {"k": []}})
    bad = {
        "float": msgpack.packb(1.5),
        "nil": msgpack.packb(None),
        "keys not sorted": b"\x82\xa1b\x01\xa1a\x02",
        "one key twice": b"\x82\xa1a\x01\xa1a\x02",
        "key in capitals": b"\x81\xa1A\x01",
        "not the shortest form": b"\xd0\x01",
        "text not in NFC": msgpack.packb("e\u0301"),
        "something behind the value": b"\x01\x02",
        "above int64": msgpack.packb(2**63),
    }
    return {
        "good": [encode(value).hex() for value in good],
        "bad": {why: raw.hex() for why, raw in bad.items()},
    }


def log_vectors(log: Log, witness: Signer) -> Json:
    """A log's entries, its cosigned head, and proofs at every size."""
    checkpoint = log.checkpoint
    key = VerifierKey("w.example/witness", KeyType.COSIGNATURE_V1, witness.public_key)
    line = cosign(checkpoint.text, key.name, witness, START_US // 1_000_000 + 60)
    size = checkpoint.size
    return {
        "log_id": log.log_id.hex(),
        "origin": log.origin,
        "vkey": str(log.identity.verifier_key),
        "wvkey": str(key),
        "entries": [
            {
                "seq": entry.seq,
                "kind": entry.kind,
                "prev": entry.prev.hex(),
                "raw": entry.raw.hex(),
                "leaf": entry.leaf.hex(),
            }
            for entry in log.entries()
        ],
        "roots": [log.root_at(n).hex() for n in range(size + 1)],
        "note": (log.note + line).decode(),
        "inclusion": [
            {"i": i, "n": size, "proof": [node.hex() for node in log.prove_inclusion(i, size)]}
            for i in range(size)
        ],
        "consistency": [
            {"m": m, "n": size, "proof": [node.hex() for node in log.prove_consistency(m, size)]}
            for m in range(1, size + 1)
        ],
    }


def bad_entries(raw: bytes) -> list[Json]:
    """Entries that must be refused as bytes, each with the name of the rule."""
    body, key_id, signature = msgpack.unpackb(raw)
    cases = {
        "a byte too many": raw + b"\0",
        "cut short": raw[:-1],
        "key id of five bytes": msgpack.packb([body, key_id + b"\0", signature]),
        "no signature": msgpack.packb([body, key_id, b""]),
        "body is no dm1": msgpack.packb([body + b"\0", key_id, signature]),
        "another version": msgpack.packb([body[:-1] + b"\x02", key_id, signature]),
    }
    return [{"why": why, "raw": bad.hex(), "rule": _rule(bad)} for why, bad in cases.items()]


def _rule(raw: bytes) -> str:
    try:
        parse_entry(raw)
    except LedgerError as error:
        return type(error).__name__
    raise AssertionError("an entry that must be refused was accepted")


def document() -> Json:
    """All vectors."""
    identity, log_key, witness = (Signer(bytes([n]) * 32) for n in (1, 2, 3))
    with tempfile.TemporaryDirectory() as folder:
        log = Log.create(
            Path(folder),
            deployment="practice",
            identity=identity,
            log=log_key,
            witness_pk=witness.public_key,
            nonce=bytes(32),
            now_us=START_US,
        )
        for at in range(1, ENTRIES):
            body = {"study": bytes([at]) * 32, "reason": "no-vote"}
            log.append([Draft("study.refused", "data-owner", body)], START_US + at * 1_000_000)
        told = log_vectors(log, witness)
        raw = log.entry(1).raw
        log.close()
    salt = bytes(range(32))
    return {
        "about": "seeds: identity 01…, log 02…, witness 03…; nonce 00…; all bytes in hexadecimal",
        "dm1": dm1_vectors(),
        "log": told,
        "bad_entries": bad_entries(raw),
        "commitment": {
            "salt": salt.hex(),
            "field": "approver",
            "value": b"Dr. A. Example".hex(),
            "commitment": commitment_of("approver", salt, b"Dr. A. Example").hex(),
        },
    }


def main() -> None:
    """Print them."""
    print(json.dumps(document(), ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
