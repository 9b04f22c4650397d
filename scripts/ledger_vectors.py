"""Print the ledger's test vectors: what a second implementation must produce and refuse.

    .venv/bin/python scripts/ledger_vectors.py > tests/vectors/ledger/ledger.json

Everything follows from the seeds in it. The keys are well known: never use them."""

import json

import msgpack
from practice_log import SEEDS, START_US, WITNESS, practice_log, refuse

from ledger.log import (
    KeyType,
    LedgerError,
    Log,
    VerifierKey,
    commitment_of,
    cosign,
    encode,
    parse_entry,
)

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


def log_vectors(log: Log) -> Json:
    """A log's entries, its cosigned head, and proofs at every size."""
    checkpoint = log.checkpoint
    key = VerifierKey("w.example/witness", KeyType.COSIGNATURE_V1, WITNESS.public_key)
    line = cosign(checkpoint.text, key.name, WITNESS, START_US // 1_000_000 + 60)
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
    with practice_log() as log:
        for at in range(1, ENTRIES):
            refuse(log, bytes([at]) * 32)
        told = log_vectors(log)
        raw = log.entry(1).raw
    salt = bytes(range(32))
    return {
        "about": f"seeds: {SEEDS}; all bytes in hexadecimal",
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
