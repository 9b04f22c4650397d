"""Limits on everything that crosses between sites: constants of the format, then tunable rates.

The constants belong to the wire format: two sites must agree on them.
`DisseminationLimits` is each site's own protection.
"""

from dataclasses import dataclass

INLINE_BYTES_MAX = 16 * 1024
"""A payload up to this size travels inside its message; a larger one is fetched by digest."""
MANIFEST_BYTES_MAX = 48 * 1024
NOTE_BYTES_MAX = 2 * 1024
"""A signed note: a log's head."""
ENVELOPE_BYTES_MAX = 68 * 1024
"""Largest sealed message: a study proposal with its initial model, and room to spare."""
BLOB_BYTES_MAX = 2**31
INVENTORY_IDS_MAX = 1024
WANTED_IDS_MAX = 256
ROUND_MAX = 1_000_000
STEPS_MAX = 10_000_000
PATIENTS_MAX = 1_000_000_000
INT_MAX = 2**63 - 1
STEERED_ARGUMENTS_MAX = 16
STEERED_NAME_BYTES_MAX = 40
STEERED_DECIMAL_BYTES_MAX = 32
"""A number as text: digits, perhaps a fraction, perhaps an exponent of two digits."""
PAUSE_REASON_BYTES_MAX = 96
"""A code without spaces, as it goes on record."""

ORIGIN_BYTES_MAX = 160
"""A log's name in its checkpoints."""
WITNESS_REQUEST_BYTES_MAX = 12 * 1024
WITNESS_BODY_BYTES_MAX = 1024
HELD_NOTES_MAX = 64
HELD_NOTE_BYTES_MAX = 8 * 1024
"""A note with the cosignatures under it."""
HELD_NOTES_BYTES_MAX = 48 * 1024
LEAVES_MAX = 1024
ENTRIES_MAX = 256
ENTRY_BYTES_MAX = 65 * 1024
"""The largest entry that a log may hold, sealed."""
ENTRIES_BYTES_MAX = 48 * 1024
"""Of one message's entries together, unless it is a single one."""
FORK_PART_BYTES_MAX = 56 * 1024
FORK_PARTS_MAX = 3
"""Two entries of the largest size and what surrounds them: the largest proof of a fork."""
LINEAGE_ENTRIES_MAX = 64
LINEAGE_BYTES_MAX = 48 * 1024
"""A log's genesis entry and those that changed its keys, together."""

MEMBERS_MAX = 256
CARD_BYTES_MAX = 4 * 1024
ROSTER_BYTES_MAX = MEMBERS_MAX * (CARD_BYTES_MAX + 128) + 1024
CHANGE_BYTES_MAX = 24 * 1024
"""What one vote may change: some sixty cards at once."""
VOTE_MAX = 1_000_000
STATEMENT_BYTES_MAX = 20 * 1024
"""A closing statement with the signatures of a quorum of 256 members."""
LINK_BYTES_MAX = 62 * 1024
"""A change and the two quorums of signatures that put it into force."""
CHAIN_LINKS_MAX = 4096
CHAIN_BYTES_MAX = 32 * 1024 * 1024
ROSTER_IDS_MAX = 1024
ROSTER_WANTED_MAX = 256
ROSTER_ITEMS_MAX = 256
ROSTER_ITEMS_BYTES_MAX = 64 * 1024
"""Of one message's items together."""
NAME_BYTES_MAX = 64
CONSORTIUM_BYTES_MAX = 63
ADDRESSES_MAX = 8
ADDRESS_BYTES_MAX = 261


@dataclass(frozen=True, slots=True)
class DisseminationLimits:
    """How much one site lets others take of its memory, time and uplink."""

    reconcile_s: float = 5.0
    """Mean time between two inventories for the same peer; ±20 % jitter."""
    ask_again_s: float = 3.0
    """An item is requested from one peer at most this often."""
    resend_s: float = 3.0
    """An item is sent to one peer at most this often."""
    repair_bytes_per_s: float = 1024.0 * 1024.0
    """What answering one peer's requests may cost."""
    repair_bytes_burst: float = 2.0 * 1024.0 * 1024.0
    asks_per_peer_max: int = WANTED_IDS_MAX
    """Requests to one peer that are still unanswered."""

    source_messages_per_s: float = 100.0
    source_messages_burst: float = 1000.0
    source_bytes_per_s: float = 4.0 * 1024.0 * 1024.0
    source_bytes_burst: float = 16.0 * 1024.0 * 1024.0
    reconcile_messages_per_s: float = 2.0
    """Inventories and requests together, from one peer."""
    reconcile_messages_burst: float = 20.0
    witness_messages_per_s: float = 40.0
    """Everything about logs that one peer sends straight to this site."""
    witness_messages_burst: float = 200.0
    roster_messages_per_s: float = 10.0
    """Everything about the roster that one peer sends straight to this site."""
    roster_messages_burst: float = 200.0
    origin_messages_per_s: float = 10.0
    """Messages for everyone, signed by one site; counted apart for direct and passed-on ones."""
    origin_messages_burst: float = 200.0
    proposals_per_s: float = 1.0
    """Of these, proposals: to read one takes as long as hundreds of other messages."""
    proposals_burst: float = 16.0
    refusal_notice_s: float = 1.0
    """A site that sends too fast is reported at most this often."""

    own_items_max: int = 4096
    own_bytes_max: int = 64 * 1024 * 1024
    relayed_s: float = 24.0 * 3600.0
    """How long an item that came from another site is passed on."""
    relayed_bytes_per_origin_max: int = 512 * 1024
    relayed_bytes_max: int = 32 * 1024 * 1024
    relayed_proposals_per_origin_max: int = 16
    relayed_decisions_per_origin_max: int = 128
    relayed_steerings_per_origin_max: int = 16
    relayed_pauses_per_origin_max: int = 16
    relayed_heads_per_origin_max: int = 2
    """A log's newer head replaces what an older one said."""
    relayed_forks_per_origin_max: int = 8
    """Parts of proofs; eight of them stay below `relayed_bytes_per_origin_max`."""

    seen_proposals_per_origin_max: int = 64
    seen_decisions_per_origin_max: int = 512
    seen_steerings_per_origin_max: int = 256
    seen_pauses_per_origin_max: int = 256
    seen_heads_per_origin_max: int = 128
    seen_forks_per_origin_max: int = 64
    seen_updates_per_origin_max: int = 512
