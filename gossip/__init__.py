"""Signed messages between the sites of a consortium, and how every addressed site gets them.

It knows nothing of learning, studies' meaning, or ledgers. Transports are imported from their
own modules, because libp2p takes long to load.
"""

from gossip.card import Card, decode_card, encode_card, sign_card
from gossip.envelope import Envelope, open_envelope, seal
from gossip.errors import PeerError, TransportError
from gossip.identifiers import Digest, SiteId, digest_of, fingerprint, site_id_of
from gossip.keys import SiteKeys, generate, read_keys, write_keys
from gossip.messages import (
    Decision,
    HeadAdvertised,
    Inventory,
    Message,
    StudyDecision,
    StudyProposal,
    StudySteered,
    UpdateAnnounced,
    Wanted,
)
from gossip.pause_messages import Pause, StudyPaused
from gossip.roster import (
    Roster,
    add_signature,
    decode_roster,
    draft_roster,
    encode_roster,
    merge_signatures,
    sign_roster,
    verify_founding,
)
from gossip.transport import Inbox, Transport

__all__ = [
    "Card",
    "Decision",
    "Digest",
    "Envelope",
    "HeadAdvertised",
    "Inbox",
    "Inventory",
    "Message",
    "Pause",
    "PeerError",
    "Roster",
    "SiteId",
    "SiteKeys",
    "StudyDecision",
    "StudyPaused",
    "StudyProposal",
    "StudySteered",
    "Transport",
    "TransportError",
    "UpdateAnnounced",
    "Wanted",
    "add_signature",
    "decode_card",
    "decode_roster",
    "digest_of",
    "draft_roster",
    "encode_card",
    "encode_roster",
    "fingerprint",
    "generate",
    "merge_signatures",
    "open_envelope",
    "read_keys",
    "seal",
    "sign_card",
    "sign_roster",
    "site_id_of",
    "verify_founding",
    "write_keys",
]
