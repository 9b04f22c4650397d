"""Print the worked example of docs/protocol.md: a message taken apart, and a log of two entries.

    .venv/bin/python scripts/protocol_example.py

A test compares the document with this output. The keys are well known: never use them.
"""

import json
from hashlib import sha256
from pathlib import Path

from practice_log import practice_log, refuse

from ledger.log import Entry, decode

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "gossip" / "envelopes.json"
WIDTH = 100


def show(name: str, value: bytes | str) -> None:
    """A name and its value, wrapped; bytes as hex."""
    text = value.hex() if isinstance(value, bytes) else value
    room = WIDTH - 14
    pieces = [text[at : at + room] for at in range(0, len(text), room)] or [""]
    print(f"{name:<14}{pieces[0]}")
    for piece in pieces[1:]:
        print(f"{'':<14}{piece}")


def envelope_example() -> None:
    """The envelope of a HeadAdvertised message, cut where its parts meet."""
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    example = next(one for one in vectors["opened"] if one["message"] == "HeadAdvertised")
    raw = bytes.fromhex(example["raw"])
    body = raw[64:]
    name = vectors["consortium"].encode()
    print("envelope of HeadAdvertised(note = b'head')")
    show("signature", raw[:64])
    show("body start", body[:4])
    show("sender", body[4:36])
    show("message", body[36:])
    show("signed bytes", b"p2pfl/envelope/v1\0" + len(name).to_bytes(2, "big") + name + body)
    show("digest", sha256(raw).digest())
    assert sha256(raw).hexdigest() == example["digest"]


def entry_example(entry: Entry) -> None:
    """An entry's bytes and what follows from them."""
    body = decode(entry.raw[entry.raw.index(b"\x88\xa1a") : -72])
    assert isinstance(body, dict)
    print(f"\nentry {entry.seq}: {entry.kind}")
    show("raw", entry.raw)
    show("prev", entry.prev)
    show("key id", entry.key_id)
    show("leaf", entry.leaf)
    assert entry.leaf == sha256(b"\0" + entry.raw).digest()
    assert body["k"] == entry.kind


def ledger_example() -> None:
    """A log with its genesis entry and one more, and its signed head."""
    with practice_log() as log:
        refuse(log, bytes(32))
        print("\nlog: identity, log and witness key from seeds 01…, 02…, 03…; nonce 00…")
        show("log id", log.log_id)
        show("origin", log.origin)
        for entry in log.entries():
            entry_example(entry)
        first, second = log.entries()
        print("\nhead after both entries")
        show("root", log.checkpoint.root)
        assert log.checkpoint.root == sha256(b"\1" + first.leaf + second.leaf).digest()
        print(log.note.decode().rstrip("\n"))


def main() -> None:
    """Print both."""
    envelope_example()
    ledger_example()


if __name__ == "__main__":
    main()
