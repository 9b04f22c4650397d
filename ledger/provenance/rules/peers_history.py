"""Do other sites hold the same history of this log, and was no log caught with two?

A signed head is a promise about every entry before it. One that this log's entries do not give
proves two histories, whoever changed the files and whatever keys they had."""

from collections.abc import Iterable, Iterator, Sequence

from ledger.log import ExitCode
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import KeyRotated, UpdateReceived
from ledger.provenance.peers import SETTLING_US, HeldHead, PeerEvidence, PeerLog, roots_at
from ledger.provenance.timeline import Timeline

_FREEZE = (
    "Stop the node, keep a copy of the whole home and of the other sites' heads, and tell every "
    "member: a log with two histories is never repaired, a new incarnation goes on "
    "(`p2pfl ledger new-incarnation`)."
)
_RECOVER = (
    "Stop the node and keep a copy of the whole home; `p2pfl ledger recover` fetches the lost end "
    "from the sites that mirror it."
)
_ASK_PEER = "Ask that site for a newer copy of its ledger, then audit again."
REPLACED = Rule("log.replaced", _FREEZE, ExitCode.INTEGRITY_BROKEN)
KEY_REPLACED = Rule(
    "log.key_replaced",
    "Ask the site's operator who replaced the log key; a rotation is recorded in the log itself "
    "and in a roster that the members signed.",
    ExitCode.INTEGRITY_BROKEN,
)
BEHIND = Rule("log.behind", _RECOVER, ExitCode.ROLLBACK)
REWRITTEN = Rule("log.rewritten", _FREEZE, ExitCode.FORK_PROVEN)
DISPUTED = Rule(
    "log.disputed",
    "Compare with the sites that are named: their signed logs remember other entries than this "
    "log shows. A signed head that one of them kept proves who is right.",
)
TWO_HEADS = Rule("fork.two_heads", _FREEZE, ExitCode.FORK_PROVEN)
WITNESS = Rule(
    "fork.witness",
    "Do not count this witness any more: it vouched for two histories. Tell every member.",
    ExitCode.FORK_PROVEN,
)
PROVEN = Rule("fork.proven", _FREEZE, ExitCode.FORK_PROVEN)
PEER_REWRITTEN = Rule(
    "peer.rewritten",
    "Tell every member, and decide together whether the site stays on the roster.",
    ExitCode.FORK_PROVEN,
)
STALE = Rule("peer.stale", _ASK_PEER, ExitCode.EVIDENCE_INCOMPLETE)
UNREADABLE = Rule("peer.unreadable", _ASK_PEER, ExitCode.EVIDENCE_INCOMPLETE)
DAMAGED = Rule("peer.damaged", _ASK_PEER, ExitCode.EVIDENCE_INCOMPLETE)


def _look_at_own(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    peers = context.peers
    if peers is None:
        return Looked(0, "heads and receipts", applies=False)
    heads = peers.heads_of(timeline.log_id)
    told = [
        (log.site, received.seq, received.record)
        for log in peers.sound
        for received in log.timeline.of(UpdateReceived)
        if received.record.sender == context.site
    ]
    findings = [
        *_find_replaced(timeline, context, peers),
        *_find_other_heads(timeline, context, heads),
        *_find_disputed(timeline, context, told),
    ]
    notes = () if heads else ("No other site's signed head of this log was at hand.",)
    return Looked(
        len(heads) + len(told),
        "heads and receipts",
        tuple(findings),
        notes,
        missing=int(not heads),
    )


def _find_replaced(
    timeline: Timeline, context: AuditContext, peers: PeerEvidence
) -> Iterator[AuditFinding]:
    """Whether the rosters mean this very log, under keys that it tells of itself."""
    identity = peers.identity
    if identity is None:
        return  # the unreadable genesis entry is a finding of its own
    if context.names and context.site not in context.names:
        yield REPLACED.broken(0, "The site that this log says it belongs to is on no roster.")
    rotated = {x.record.new for x in timeline.of(KeyRotated) if x.record.key == "log"}
    keys = {identity.keys[0].public_key, *rotated}
    went_on = identity.previous.log_id if identity.previous else b""
    for card in peers.cards:
        holder = context.site_name(card.holder)
        if card.log_id == timeline.log_id and card.log_pk not in keys:
            yield KEY_REPLACED.broken(
                0, f"The roster of {holder} names a log key that this log never had."
            )
        elif card.log_id not in (timeline.log_id, went_on):
            yield REPLACED.broken(
                0,
                f"The roster of {holder} names another log of this site, "
                f"{card.log_id.hex()[:16]}…; this one is {timeline.log_id.hex()[:16]}… and does "
                "not say that it goes on from there.",
            )


def _find_other_heads(
    timeline: Timeline, context: AuditContext, heads: tuple[HeldHead, ...]
) -> Iterator[AuditFinding]:
    size = len(timeline.leaves)
    if heads and heads[-1].size > size:
        holders = {head.holder for head in heads if head.size > size}
        yield BEHIND.broken(
            size,
            f"This log ends after {size} entries, but {_names(context, holders)} hold its signed "
            f"head over {heads[-1].size}.",
        )
    for head, root in _differing(heads, timeline.leaves):
        yield REWRITTEN.broken(
            None,
            f"{context.site_name(head.holder)} holds this log's signed head over {head.size} "
            f"entries with root {head.root.hex()[:16]}…; the entries here give "
            f"{root.hex()[:16]}…: history was written anew.",
        )


def _differing(
    heads: Iterable[HeldHead], leaves: Sequence[bytes]
) -> Iterator[tuple[HeldHead, bytes]]:
    """Heads that these entries do not give, and the root that they do give."""
    roots = roots_at(leaves, (head.size for head in heads))
    for head in heads:
        root = roots.get(head.size, head.root)
        if root != head.root:
            yield head, root


def _find_disputed(
    timeline: Timeline, context: AuditContext, told: list[tuple[bytes, int, UpdateReceived]]
) -> Iterator[AuditFinding]:
    """What others recorded to have received from here must stand here, byte for byte."""
    for site, seq, record in told:
        where = f"entry {seq} of the log of {context.site_name(site)}"
        if record.from_seq >= len(timeline.leaves):
            yield BEHIND.broken(
                len(timeline.leaves),
                f"This log ends after {len(timeline.leaves)} entries, but {where} received what "
                f"its entry {record.from_seq} published.",
            )
        elif timeline.leaves[record.from_seq] != record.from_leaf:
            yield DISPUTED.broken(
                record.from_seq,
                f"{where} received an update of round {record.round} of "
                f"{context.study_name(record.study)} that entry {record.from_seq} published; the "
                "entry here is another one.",
            )


def _look_for_forks(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    peers = context.peers
    if peers is None:
        return Looked(0, "logs", applies=False)
    known = {log.log_id: log.leaves for log in peers.sound} | {timeline.log_id: timeline.leaves}
    findings = [
        PROVEN.broken(None, f"A fork proof ({fork.form}) checks out: {fork.sentence}")
        for fork in peers.forks
    ]
    log_ids = sorted({head.log_id for head in peers.heads})
    for log_id in log_ids:
        heads = peers.heads_of(log_id)
        findings += _find_two_heads(context, log_id, heads)
        findings += _find_false_witnesses(context, heads, known.get(log_id, ()))
    for log in peers.sound:
        findings += _find_rewritten(context, log, peers.heads_of(log.log_id))
    return Looked(len(log_ids), "logs", tuple(findings))


def _find_two_heads(
    context: AuditContext, log_id: bytes, heads: tuple[HeldHead, ...]
) -> Iterator[AuditFinding]:
    first: dict[int, HeldHead] = {}
    for head in heads:
        other = first.setdefault(head.size, head)
        if other.root != head.root:
            yield TWO_HEADS.broken(
                None,
                f"Log {log_id.hex()[:16]}… showed two histories of {head.size} entries: one to "
                f"{context.site_name(other.holder)}, another to {context.site_name(head.holder)}.",
            )


def _find_false_witnesses(
    context: AuditContext, heads: tuple[HeldHead, ...], leaves: Sequence[bytes]
) -> Iterator[AuditFinding]:
    """A witness that vouched for two heads of which at most one can be true.

    Of one size they differ by their roots; of two sizes one fits the entries and one does not."""
    wrong = {(head.size, head.root) for head, _ in _differing(heads, leaves)}
    vouched: dict[bytes, list[HeldHead]] = {}
    for head in heads:
        for cosigned in head.cosigned:
            vouched.setdefault(cosigned.witness, []).append(head)
    for witness, its in sorted(vouched.items()):
        roots: dict[int, set[bytes]] = {}
        for head in its:
            roots.setdefault(head.size, set()).add(head.root)
        fits = {(head.size, head.root) not in wrong for head in its if head.size <= len(leaves)}
        if len(fits) > 1 or any(len(of_size) > 1 for of_size in roots.values()):
            yield WITNESS.broken(
                None,
                f"{context.site_name(witness)} cosigned two histories of log "
                f"{its[0].log_id.hex()[:16]}….",
            )


def _find_rewritten(
    context: AuditContext, log: PeerLog, heads: tuple[HeldHead, ...]
) -> Iterator[AuditFinding]:
    for head, _ in _differing(heads, log.leaves):
        yield PEER_REWRITTEN.broken(
            None,
            f"The ledger that {context.site_name(log.site)} shows is not the one whose head over "
            f"{head.size} entries {context.site_name(head.holder)} holds, signed by that log.",
        )


def _look_at_copies(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    """Whether the copies that the audit was given are whole and new enough to answer."""
    peers = context.peers
    if peers is None:
        return Looked(0, "copies", applies=False)
    findings = [UNREADABLE.broken(None, problem) for problem in peers.problems]
    for log in peers.logs:
        name = context.site_name(log.site)
        if log.verification is not None and not log.is_sound:
            worst = next(x for x in log.verification.findings if x.code.exit_code)
            findings.append(
                DAMAGED.broken(
                    None,
                    f"The copy of the ledger of {name} is damaged ({worst.code.value}): what it "
                    "says counts for nothing here.",
                )
            )
        needed = _size_needed(timeline, context, log, peers)
        if needed > log.size:
            findings.append(
                STALE.broken(
                    None,
                    f"The copy of the ledger of {name} ends after {log.size} entries; others know "
                    f"{needed}. What it should answer may stand in the part that is missing.",
                )
            )
    absent = sorted(peers.members - {log.site for log in peers.logs})
    notes = (f"No ledger at hand of {_names(context, absent)}.",) if absent else ()
    return Looked(
        len(peers.logs),
        "copies",
        tuple(findings),
        notes,
        applies=bool(findings or peers.logs),
        missing=len(absent),
    )


def _size_needed(
    timeline: Timeline, context: AuditContext, log: PeerLog, peers: PeerEvidence
) -> int:
    """How long a peer's log is at least, by what others hold and what this log received."""
    settled_us = context.now_us - SETTLING_US
    sizes = [head.size for head in peers.heads_of(log.log_id) if head.seen_us <= settled_us]
    sizes += [
        received.record.from_seq + 1
        for received in timeline.of(UpdateReceived)
        if received.record.sender == log.site and received.time_us <= settled_us
    ]
    return max(sizes, default=0)


def _names(context: AuditContext, sites: Iterable[bytes]) -> str:
    return ", ".join(context.site_name(site) for site in sorted(sites))


CHECKS = (
    Check("history", "Other sites know the same history of this log", _look_at_own),
    Check("histories", "No log showed two histories, no witness vouched for two", _look_for_forks),
    Check("copies", "The other sites' ledgers are whole and new enough", _look_at_copies),
)
