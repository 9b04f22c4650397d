"""Known answers for another implementation: run this file to write them anew.

python tests/gossip/gossip_vectors.py
"""

import json
from dataclasses import fields
from enum import Enum
from pathlib import Path

from gossip_people import (
    CONSORTIUM,
    about_logs,
    decision,
    founded,
    head,
    people,
    person,
    proposal,
    steering,
    update,
)

from gossip.card import encode_card
from gossip.envelope import seal
from gossip.identifiers import digest_of
from gossip.messages import Inventory, Message, Wanted
from gossip.roster import encode_roster
from gossip.witness_messages import SentEntry

MEMBERS = 3


def envelope_vectors() -> dict[str, object]:
    """Sealed messages that open, and some that are refused with the rule's name."""
    alice = people(MEMBERS)[0]
    ids = tuple(sorted(digest_of(label) for label in (b"one", b"two")))
    messages: list[Message] = [
        update(),
        update(inline=b""),
        proposal(),
        decision(),
        head(),
        Inventory(ids),
        Wanted(ids[:1]),
        steering(),
        *about_logs(),
    ]
    opened = []
    for message in messages:
        raw = alice.seal(message)
        opened.append(
            {
                "message": type(message).__name__,
                "fields": {
                    each.name: _shown(getattr(message, each.name)) for each in fields(message)
                },
                "raw": raw.hex(),
                "digest": digest_of(raw).hex(),
            }
        )
    good = alice.seal(head())
    refused = {
        "Garbled": good[:100],
        "NotOnRoster": person(9).seal(head()),
        "BadSignature": seal(alice.keys.identity, alice.site, CONSORTIUM, head()),
    }
    return {
        "consortium": CONSORTIUM,
        "roster": encode_roster(founded(MEMBERS)).hex(),
        "sender": alice.site.hex(),
        "transport_seed": alice.keys.transport.hex(),
        "opened": opened,
        "refused": [{"rule": rule, "raw": raw.hex()} for rule, raw in refused.items()],
    }


def roster_vectors() -> dict[str, object]:
    """A founding roster, its cards and the seeds behind them."""
    roster = founded(MEMBERS)
    return {
        "consortium": CONSORTIUM,
        "members": [
            {
                "identity_seed": each.keys.identity.hex(),
                "transport_seed": each.keys.transport.hex(),
                "log_seed": each.keys.log.hex(),
                "witness_seed": each.keys.witness.hex(),
                "name": each.card.name,
                "log_id": each.card.log_id.hex(),
                "addresses": list(each.card.addresses),
                "site": each.site.hex(),
                "card": encode_card(each.card).hex(),
            }
            for each in people(MEMBERS)
        ],
        "roster": encode_roster(roster).hex(),
        "digest": roster.digest.hex(),
    }


def _shown(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, SentEntry):
        return [value.seq, value.form, value.data.hex()]
    if isinstance(value, tuple):
        return [_shown(each) for each in value]
    return value.value if isinstance(value, Enum) else value


if __name__ == "__main__":
    folder = Path(__file__).parent.parent / "vectors" / "gossip"
    folder.mkdir(parents=True, exist_ok=True)
    for name, vectors in (("envelopes", envelope_vectors()), ("rosters", roster_vectors())):
        (folder / f"{name}.json").write_text(json.dumps(vectors, indent=1) + "\n")
