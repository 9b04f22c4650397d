"""Are the model files that are still kept the ones the entries name?

The only rule that reads files, through the reader it was given."""

import hashlib
from collections.abc import Iterator

from ledger.log import ExitCode
from ledger.provenance.findings import (
    AuditContext,
    AuditFinding,
    BlobReader,
    Check,
    Looked,
    Rule,
    Tools,
)
from ledger.provenance.kinds import (
    AggDone,
    ModelReleased,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.timeline import Timeline

DIFFERS = Rule(
    "artefact.differs",
    "Do not use this file. Fetch the model again from a neighbour, and check the disk.",
    ExitCode.INTEGRITY_BROKEN,
)
SIZE = Rule("artefact.size", "Keep the home as it is and find the cause in the node's log.")
UNREADABLE = Rule(
    "artefact.unreadable",
    "Check the file's rights and the disk, then audit again.",
    ExitCode.EVIDENCE_INCOMPLETE,
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    if context.blob is None:
        return Looked(0, "files", applies=False)
    named = _named(timeline)
    sizes: dict[bytes, int] = {}
    findings = [
        found
        for digest, (seq, what) in named.items()
        for found in _judge(context.blob, digest, seq, f"{what}", sizes)
    ]
    findings += _find_wrong_sizes(timeline, context, sizes)
    gone = len(named) - len(sizes)
    notes = (f"{gone} of {len(named)} models are not kept any more.",) if gone else ()
    return Looked(len(sizes), "files", tuple(findings), notes, missing=gone)


def _named(timeline: Timeline) -> dict[bytes, tuple[int, str]]:
    """Every digest that an entry vouches for, with the first such entry."""
    named: dict[bytes, tuple[int, str]] = {}
    for logged in timeline.logged:
        match logged.record:
            case TrainDone(base_model=base, out_hash=out, round=round_):
                named.setdefault(base, (logged.seq, f"The model before round {round_}"))
                named.setdefault(out, (logged.seq, f"The trained model of round {round_}"))
            case UpdatePublished(hash=digest, round=round_):
                named.setdefault(digest, (logged.seq, f"The published update of round {round_}"))
            case UpdateReceived(hash=digest, round=round_, verdict="accepted"):
                named.setdefault(digest, (logged.seq, f"A received update of round {round_}"))
            case AggDone(out_hash=digest, round=round_):
                named.setdefault(digest, (logged.seq, f"The average of round {round_}"))
            case ModelReleased(hash=digest):
                named.setdefault(digest, (logged.seq, "The released model"))
            case _:
                pass  # other kinds name no models
    return named


def _judge(
    blob: BlobReader, digest: bytes, seq: int, what: str, sizes: dict[bytes, int]
) -> Iterator[AuditFinding]:
    path = blob(digest)
    if path is None:
        return
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").digest()
            sizes[digest] = file.tell()
    except OSError as error:
        sizes[digest] = -1
        reason = error.strerror or type(error).__name__
        yield UNREADABLE.broken(seq, f"{what} could not be read: {reason}.")
        return
    if actual != digest:
        yield DIFFERS.broken(
            seq,
            f"{what} on disk is not the recorded one: recorded {digest.hex()[:16]}…, found "
            f"{actual.hex()[:16]}….",
        )


def _find_wrong_sizes(
    timeline: Timeline, context: AuditContext, sizes: dict[bytes, int]
) -> Iterator[AuditFinding]:
    for published in timeline.of(UpdatePublished):
        size = sizes.get(published.record.hash, -1)
        if size not in (-1, published.record.size):
            yield SIZE.broken(
                published.seq,
                f"The update of round {published.record.round} of "
                f"{context.study_name(published.record.study)} was recorded with "
                f"{published.record.size} bytes; the file has {size}.",
            )


CHECKS = (Check("artefacts", "Kept model files are the recorded ones", _look),)
