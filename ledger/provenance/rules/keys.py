"""Were keys replaced in order, and not used after they were disowned?

That each entry is signed by the log key in force, and that the identity key signed each change,
is verified by `ledger.log`; here it is about what the entries say."""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import KeyCompromised, KeyRotated
from ledger.provenance.moments import moment_of
from ledger.provenance.timeline import Timeline

_ASK = (
    "Ask the operator who replaced the key and when; until that is clear, believe only what other "
    "sites cosigned before."
)
ROTATION = Rule("key.rotation_order", _ASK)
REUSED = Rule("key.reused", _ASK)
STILL_USED = Rule(
    "key.still_used",
    "Replace the log key at once (`p2pfl ledger rotate-key`): whoever else has it can sign "
    "entries in this site's name.",
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    findings = [*_find_disorder(timeline), *_find_still_used(timeline)]
    notes = []
    for lost in timeline.of(KeyCompromised):
        if lost.record.key == "witness":
            notes.append(
                f"What the witness key {lost.record.public_key.hex()[:16]}… cosigned from "
                f"{moment_of(lost.record.since_us)} on does not count: others may have had it."
            )
        count = sum(
            lost.record.since_us <= time_us
            for seq, time_us in timeline.times.items()
            if seq < lost.seq
        )
        if lost.record.key == "log" and count:
            notes.append(
                f"{count} entries before entry {lost.seq} were made while the log key may have "
                "been in other hands: believe them as far as other sites cosigned them."
            )
    count = len(timeline.of(KeyRotated)) + len(timeline.of(KeyCompromised))
    return Looked(count, "key changes", tuple(findings), tuple(notes))


def _find_disorder(timeline: Timeline) -> Iterator[AuditFinding]:
    """Each rotation replaces the key that the one before it brought."""
    in_force: dict[str, bytes] = {}
    retired: dict[str, set[bytes]] = {}
    for rotated in timeline.of(KeyRotated):
        record = rotated.record
        if in_force.setdefault(record.key, record.old) != record.old:
            yield ROTATION.broken(
                rotated.seq,
                f"The {record.key} key was replaced, but not the one that was in force.",
            )
        gone = retired.setdefault(record.key, set())
        gone.add(record.old)
        if record.new in gone:
            yield REUSED.broken(rotated.seq, f"A {record.key} key that was replaced came back.")
        in_force[record.key] = record.new


def _find_still_used(timeline: Timeline) -> Iterator[AuditFinding]:
    """A log key that was disowned signs nothing more but its own replacement."""
    for lost in timeline.of(KeyCompromised):
        record = lost.record
        replaced = any(
            x.record.key == "log" and x.record.old == record.public_key
            for x in timeline.of(KeyRotated)
        )
        newest = timeline.logged[-1].seq
        if record.key == "log" and not replaced and newest > lost.seq:
            yield STILL_USED.broken(
                lost.seq,
                "The log key was declared compromised here and never replaced, but the log goes "
                f"on to entry {newest}.",
            )


CHECKS = (Check("keys", "Keys were replaced in order and not used after that", _look),)
