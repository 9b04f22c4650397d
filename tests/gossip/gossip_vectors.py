"""Known answers for another implementation: run this file to write them anew.

python tests/gossip/gossip_vectors.py
"""

import json
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path

from gossip_people import (
    CONSORTIUM,
    about_logs,
    decision,
    founded,
    head,
    paused,
    people,
    person,
    proposal,
    steering,
    update,
)
from gossip_votes import about_rosters, newer_card, vote

from gossip.card import encode_card
from gossip.envelope import seal
from gossip.identifiers import digest_of
from gossip.messages import Inventory, Message, Wanted
from gossip.roster import encode_roster
from gossip.roster_chain import certificate_of, encode_chain, encode_link
from gossip.roster_change import encode_change
from gossip.roster_messages import RosterItem
from gossip.roster_votes import encode_statement, quorum
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
        paused(),
        *about_logs(),
        *about_rosters(),
        replace(update(), steps=12),
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


def vote_vectors() -> dict[str, object]:
    """A vote of the three founders: a fourth site joins, one founder has a newer card."""
    made = vote()
    names = ("sign", "sign", "accept", "accept")
    return {
        "consortium": CONSORTIUM,
        "roster": encode_roster(made.roster).hex(),
        "quorums": [quorum(members) for members in range(1, 11)],
        "newer_card": encode_card(newer_card(1)).hex(),
        "change": encode_change(made.change).hex(),
        "candidate": made.candidate.digest.hex(),
        "statements": [
            {"kind": kind, "site": each.site.hex(), "raw": encode_statement(each).hex()}
            for kind, each in zip(names, made.statements, strict=True)
        ],
        "close": encode_statement(made.close).hex(),
        "voted": encode_link(made.voted).hex(),
        "certificate": certificate_of(made.voted).hex(),
        "unanimous": encode_link(made.unanimous).hex(),
        "chain": encode_chain(made.chain).hex(),
    }


def _shown(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, RosterItem):
        return [value.kind.value, value.raw.hex()]
    if isinstance(value, SentEntry):
        return [value.seq, value.form, value.data.hex()]
    if isinstance(value, tuple):
        return [_shown(each) for each in value]
    return value.value if isinstance(value, Enum) else value


if __name__ == "__main__":
    folder = Path(__file__).parent.parent / "vectors" / "gossip"
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "envelopes": envelope_vectors(),
        "rosters": roster_vectors(),
        "votes": vote_vectors(),
    }
    for name, vectors in made.items():
        (folder / f"{name}.json").write_text(json.dumps(vectors, indent=1) + "\n")
