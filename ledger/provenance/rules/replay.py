"""Do the recorded inputs, averaged again, give the recorded model?

Bit for bit where it was averaged in the same environment, else within 1e-5, and said so."""

from enum import Enum
from pathlib import Path

from ledger.provenance.findings import (
    AuditContext,
    AuditFinding,
    BlobReader,
    Check,
    Looked,
    Replay,
    Rule,
    Tools,
)
from ledger.provenance.kinds import AggDone
from ledger.provenance.timeline import Timeline

DISTANCE_MAX = 1e-5


class _Agreement(Enum):
    EXACT = "exact"
    CLOSE = "close"
    NONE = "none"


NOT_REPRODUCED = Rule(
    "average.not_reproduced",
    "Do not use this model or what was trained from it; keep the home as it is and compare with "
    "the other sites' averages of the round.",
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    if tools.replay is None or context.blob is None:
        return Looked(0, "averages", applies=False)
    findings: list[AuditFinding] = []
    replayed = close = 0
    averages = timeline.of(AggDone)
    for averaged in averages:
        files = _files(averaged.record, context.blob)
        if files is None:
            continue
        replayed += 1
        agreement, difference = _replay(tools.replay, averaged.record, files)
        close += agreement is _Agreement.CLOSE
        if agreement is _Agreement.NONE:
            what = f"The average of round {averaged.record.round} of "
            what += context.study_name(averaged.record.study)
            findings.append(NOT_REPRODUCED.broken(averaged.seq, f"{what} {difference}."))
    notes, gone = [], len(averages) - replayed
    if close:
        notes.append(f"{close} agree within {DISTANCE_MAX} only: averaged in another environment.")
    if gone:
        notes.append(f"{gone} could not be replayed: not all of their files are kept.")
    return Looked(replayed, "averages", tuple(findings), tuple(notes), missing=gone)


def _files(record: AggDone, blob: BlobReader) -> dict[bytes, Path] | None:
    """All files of an average, or None when one is not kept."""
    digests = {record.own.hash, record.out_hash, *(used.hash for used in record.inputs)}
    found = {digest: blob(digest) for digest in sorted(digests)}
    files = {digest: path for digest, path in found.items() if path is not None}
    return files if len(files) == len(digests) else None


def _replay(replay: Replay, record: AggDone, files: dict[bytes, Path]) -> tuple[_Agreement, str]:
    """How well averaging again agrees with the record, and what differs."""
    try:
        again = replay(record, files)
    except (ValueError, OSError) as error:
        return _Agreement.NONE, f"could not be made again from its inputs: {error}"
    if again.out_hash == record.out_hash:
        return _Agreement.EXACT, ""
    if not again.same_environment and again.distance <= DISTANCE_MAX:
        return _Agreement.CLOSE, ""
    return _Agreement.NONE, f"is not what its inputs give: a value differs by {again.distance:.3g}"


CHECKS = (Check("replay", "Averages can be reproduced from their inputs", _look),)
