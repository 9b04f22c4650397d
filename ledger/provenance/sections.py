"""What a report tells besides verdicts: decisions, released models and their contributors,
rejected updates, incidents.

Responsible for collecting facts from the timeline. Judges nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

from ledger.log import Checkpoint, Previous
from ledger.log.notes import note_text
from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext
from ledger.provenance.kinds import (
    GENESIS_KIND,
    AggDone,
    CardRenewed,
    ClockAnomaly,
    CodeApproved,
    DatasetRegistered,
    DatasetRevoked,
    ForkFound,
    KeyCompromised,
    KeyRotated,
    ModelAdopted,
    ModelReleased,
    NodeOfflineStart,
    PeerMisbehaved,
    PolicyChanged,
    Record,
    Redacted,
    RosterChanged,
    RosterClosed,
    RoundSkipped,
    StudyApproved,
    StudyAway,
    StudyBack,
    StudyClosed,
    StudyPaused,
    StudyProposed,
    StudyRefused,
    StudyResumed,
    StudyRevoked,
    StudySteered,
    StudyStopped,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.timeline import Logged, Timeline

KEPT_BY = {
    "node": "the node itself keeps its privacy terms",
    "code": "its ε is by approved code: it holds only if that code does what it says",
    "nobody": "it has no privacy terms",
}
"""Who keeps the privacy terms of a study with code of a researcher's own."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a story: where in the log, when, who acted, what.

    study, ds: what it concerns, empty where it concerns none."""

    seq: int
    time_us: int
    actor: str
    sentence: str
    kind: str
    study: bytes = b""
    ds: bytes = b""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Updates of one sender that were not used, for one reason."""

    study: bytes
    sender: bytes
    verdict: str
    reason: str
    count: int
    round_first: int
    round_last: int


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A neighbour's update inside an average."""

    site: bytes
    log_id: bytes
    seq: int
    hash: bytes
    weight_u: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Step:
    """One average on the way to a released model.

    ds, eps_u: what the own update was trained on and this study's ε after it; empty and −1 where
    nothing was trained."""

    seq: int
    round: int
    out_hash: bytes
    own_hash: bytes
    own_weight_u: int
    train_seq: int
    inputs: tuple[Ingredient, ...]
    time_us: int
    ds: bytes
    eps_u: int


@dataclass(frozen=True, slots=True)
class Contributor:
    """A site's part in a released model: in how many averages its update counted."""

    site: bytes
    kept: int
    clipped: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Release:
    """A released model as a tree to its inputs: its averages, newest first."""

    seq: int
    time_us: int
    study: bytes
    round: int
    hash: bytes
    distance: str
    steps: tuple[Step, ...]
    contributors: tuple[Contributor, ...]


def decisions(timeline: Timeline, context: AuditContext) -> tuple[Happening, ...]:
    """Who decided what on datasets and studies, in order."""
    return tuple(
        _happening(logged, sentence)
        for logged in timeline.logged
        if (sentence := _decision(logged.record, context))
    )


def _happening(logged: Logged[Record], sentence: str) -> Happening:
    record = logged.record
    study, ds = getattr(record, "study", b""), getattr(record, "ds", b"")
    return Happening(logged.seq, logged.time_us, logged.actor, sentence, record.KIND, study, ds)


def _decision(record: Record, context: AuditContext) -> str:
    match record:
        case DatasetRegistered(ds=ds, patients_bucket=patients, cap_u=cap_u, delta=delta):
            return (
                f"{context.dataset_name(ds)} registered: {patients} patients or more, "
                f"ε at most {cap_u / MICRO:g} at δ {delta}; legal basis "
                f"{record.legal_basis or 'not stated'}, DPIA {record.dpia or 'not stated'}"
            )
        case DatasetRevoked(ds=ds, reason=reason):
            return f"{context.dataset_name(ds)} revoked{_because(reason)}"
        case StudyProposed(study=study, proposer=proposer):
            return f"{context.study_name(study)} proposed by {context.site_name(proposer)}"
        case StudyApproved(study=study, role=role, meaning=meaning, ds=ds):
            planned = len(record.eps_table_u) - 1
            privacy = (
                "WITHOUT privacy protection"
                if record.dp.mech == "none"
                else f"up to ε {record.eps_table_u[-1] / MICRO:.3f} in all"
            )
            return (
                f"{context.study_name(study)} approved for {context.dataset_name(ds)} by "
                f"{role or 'nobody named'} ({meaning or 'no meaning stated'}): {planned} rounds, "
                f"{privacy}"
            )
        case CodeApproved(study=study, text=text, kept_by=kept_by, level=level, versions=versions):
            packages = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
            return (
                f"{context.study_name(study)} runs approved code {text.hex()[:16]} with "
                f"{packages or 'no packages'}, confined at level {level}; {KEPT_BY[kept_by]}"
            )
        case ModelAdopted(study=study, use=use, hash=digest, of_site=site, of_seq=seq):
            return (
                f"{context.study_name(study)} builds on model {digest.hex()[:12]} ({use}), "
                f"released by entry {seq} of {context.site_name(site)}"
            )
        case StudyRefused(study=study, reason=reason):
            return f"{context.study_name(study)} refused{_because(reason)}"
        case StudyRevoked(study=study, reason=reason):
            return f"{context.study_name(study)} revoked{_because(reason)}"
        case StudyClosed(study=study, reason=reason, rounds=rounds):
            return f"{context.study_name(study)} closed after {rounds} rounds{_because(reason)}"
        case StudySteered(study=study, round=round_, changes=changes):
            values = ", ".join(f"{name} = {changes[name]}" for name in sorted(changes))
            return f"{context.study_name(study)} steered from round {round_} on: {values}"
        case PolicyChanged(hash=digest):
            return f"the site's policy changed (file {digest.hex()[:12]})"
        case _:
            return _pause(record, context)


def _pause(record: Record, context: AuditContext) -> str:
    match record:
        case StudyPaused(study=study, round=round_, reason=reason):
            return f"{context.study_name(study)} paused from round {round_} on{_because(reason)}"
        case StudyResumed(study=study, round=round_, reason=reason):
            return f"{context.study_name(study)} resumed at round {round_}{_because(reason)}"
        case StudyStopped(study=study, round=round_, reason=reason):
            return f"{context.study_name(study)} stopped before round {round_}{_because(reason)}"
        case StudyAway(study=study, reason=reason):
            return f"{context.study_name(study)}: this site is away{_because(reason)}"
        case StudyBack(study=study):
            return f"{context.study_name(study)}: this site is back"
        case _:
            return ""


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def incidents(timeline: Timeline, context: AuditContext) -> tuple[Happening, ...]:
    """Gaps and events that somebody should look at."""
    begun_again = () if timeline.previous is None else (_incarnation(timeline.previous),)
    return begun_again + tuple(
        _happening(logged, sentence)
        for logged in timeline.logged
        if (sentence := _incident(logged.record, context))
    )


def _incarnation(logged: Logged[Previous]) -> Happening:
    """A log that goes on from another one: which, and what was lost between the two."""
    previous = logged.record
    size = Checkpoint.parse(note_text(previous.note)).size if previous.note else 0
    witnessed = f"its last witnessed head has {size} entries" if size else "no head was witnessed"
    lost = size - previous.missing_from
    gap = f"entries {previous.missing_from} to {size - 1} of it are lost" if lost else "none lost"
    sentence = f"this log goes on from log {previous.log_id.hex()[:12]}; {witnessed}, {gap}"
    return Happening(logged.seq, logged.time_us, logged.actor, sentence, GENESIS_KIND)


def _incident(record: Record, context: AuditContext) -> str:
    match record:
        case RoundSkipped(study=study, round=round_, reason=reason):
            return f"round {round_} of {context.study_name(study)} skipped{_because(reason)}"
        case PeerMisbehaved(site=site, reason=reason, count=count):
            return f"{context.site_name(site)} broke the protocol {count} times{_because(reason)}"
        case RosterChanged() | RosterClosed() | CardRenewed():
            return _about_members(record, context)
        case ForkFound(log_id=log_id, form=form, witness=witness) if witness:
            who = context.site_name(witness)
            return f"{who} cosigned two histories of log {log_id.hex()[:12]} (proof {form})"
        case ForkFound(log_id=log_id, form=form):
            return f"log {log_id.hex()[:12]} showed two histories (proof {form})"
        case KeyRotated(key=key):
            return f"the site's {key} key was replaced"
        case KeyCompromised(key=key):
            return f"the site's {key} key was declared compromised"
        case Redacted(seq=seq, field=field, basis=basis):
            return f"the secret behind {field} of entry {seq} was erased{_because(basis)}"
        case ClockAnomaly(delta_us=delta_us):
            return f"the clock jumped by {delta_us / MICRO:g} s"
        case NodeOfflineStart(peers=peers):
            return f"the node started offline; none of {peers} peers confirmed its log"
        case _:
            return ""


def _about_members(
    record: RosterChanged | RosterClosed | CardRenewed, context: AuditContext
) -> str:
    if isinstance(record, RosterChanged):
        return f"roster version {record.version} with {record.members} members in force"
    if isinstance(record, RosterClosed):
        return f"vote {record.vote} on roster version {record.version} was closed here"
    return f"{context.site_name(record.site)} has a new card (serial {record.serial})"


def rejections(timeline: Timeline) -> tuple[Rejection, ...]:
    """Updates that were refused or came late, grouped by sender and reason."""
    rounds: dict[tuple[bytes, bytes, str, str], list[int]] = {}
    for logged in timeline.of(UpdateReceived):
        record = logged.record
        if record.verdict != "accepted":
            key = (record.study, record.sender, record.verdict, record.reason)
            rounds.setdefault(key, []).append(record.round)
    return tuple(Rejection(*key, len(at), min(at), max(at)) for key, at in rounds.items())


def releases(timeline: Timeline) -> tuple[Release, ...]:
    """Released models with everything that is known of their making."""
    return tuple(_releases(timeline))


def _releases(timeline: Timeline) -> Iterator[Release]:
    for logged in timeline.of(ModelReleased):
        record = logged.record
        steps = tuple(_steps(timeline, record.study, record.hash, logged.seq))
        yield Release(
            seq=logged.seq,
            time_us=logged.time_us,
            study=record.study,
            round=record.round,
            hash=record.hash,
            distance=record.distance,
            steps=steps,
            contributors=_contributors(steps),
        )


def _steps(timeline: Timeline, study: bytes, model: bytes, seq: int) -> Iterator[Step]:
    """The averages behind a model, backwards: average → own update → training → its base.

    Only entries before the one just followed count, so the walk ends."""
    averages = [x for x in timeline.of(AggDone) if x.record.study == study and x.seq < seq]
    trainings = [x for x in timeline.of(TrainDone) if x.record.study == study and x.seq < seq]
    while averages or trainings:
        average = averages.pop() if averages else None
        training = trainings[-1] if trainings else None
        if training and (average is None or training.seq > average.seq):
            if training.record.out_hash == model:
                model = training.record.base_model
            trainings.pop()
            if average:
                averages.append(average)
        elif average and average.record.out_hash == model:
            yield _step(timeline, average)
            model = average.record.own.hash


def _step(timeline: Timeline, average: Logged[AggDone]) -> Step:
    record = average.record
    published = timeline.at(record.own.seq, UpdatePublished)
    trained = timeline.at(published.record.train_seq, TrainDone) if published else None
    return Step(
        seq=average.seq,
        round=record.round,
        out_hash=record.out_hash,
        own_hash=record.own.hash,
        own_weight_u=max(0, MICRO - sum(used.weight_u for used in record.inputs)),
        train_seq=published.record.train_seq if published else -1,
        inputs=tuple(
            Ingredient(used.site, used.log_id, used.seq, used.hash, used.weight_u, verdict)
            for used, verdict in zip(record.inputs, record.verdicts, strict=True)
        ),
        time_us=average.time_us,
        ds=trained.record.ds if trained else b"",
        eps_u=trained.record.eps_u if trained else -1,
    )


def _contributors(steps: tuple[Step, ...]) -> tuple[Contributor, ...]:
    counts: dict[bytes, dict[str, int]] = {}
    for step in steps:
        for used in step.inputs:
            of_site = counts.setdefault(used.site, {"kept": 0, "clipped": 0, "dropped": 0})
            of_site[used.verdict] += 1
    return tuple(Contributor(site, **counts[site]) for site in sorted(counts))
