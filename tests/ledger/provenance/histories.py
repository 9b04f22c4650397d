"""Histories of one site, as an honest node would write them, and ways to spoil them.

`random_story` lives through datasets, studies, crashes, refusals, revocations, catch-ups and
budgets; `plain_story` is one study from proposal to release. `write` turns either into a real
log. Entry numbers are known beforehand: record i is entry i + 1, after the genesis entry."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from ledger.log import ExitCode, Log, LogReader, SigCheck, Signer, verify_log
from ledger.provenance.audit import AuditReport, audit
from ledger.provenance.findings import AuditContext, DpEvent
from ledger.provenance.kinds import (
    AggDone,
    AggInput,
    AuditRun,
    ClockAnomaly,
    DatasetRegistered,
    DatasetRevoked,
    DpTerms,
    InputRef,
    KeyRotated,
    ModelReleased,
    NodeOfflineStart,
    PeerHead,
    PeerMisbehaved,
    PolicyChanged,
    PrivacySpent,
    Record,
    Redacted,
    RosterChanged,
    RoundSkipped,
    StudyApproved,
    StudyClosed,
    StudyProposed,
    StudyRefused,
    StudyRevoked,
    StudySteered,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)

START_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000
MICRO = 1_000_000
ME = hashlib.sha256(b"site 0").digest()
PEERS = tuple(hashlib.sha256(b"site %d" % number).digest() for number in range(1, 5))
NAMES = {ME: "Basel", **dict(zip(PEERS, ("Bern", "Chur", "Genf", "Zug"), strict=True))}


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def epsilon_of(events: Sequence[DpEvent], delta: float) -> float:
    """ε by zero-concentrated privacy: simple, monotone, an upper bound for full batches.

    Source: Bun and Steinke 2016, Proposition 1.3."""
    rho = sum(event.steps * (event.q / event.sigma) ** 2 / 2 for event in events)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def epsilon_u(terms: Sequence[DpTerms], delta: str) -> int:
    events = [
        DpEvent(dp.mech, float(dp.sigma), float(dp.q), dp.steps)
        for dp in terms
        if dp.mech != "none"
    ]
    return math.ceil(epsilon_of(events, float(delta)) * MICRO)


@dataclass(frozen=True, slots=True)
class Told:
    """One record with its time."""

    record: Record
    time_us: int


@dataclass(frozen=True, slots=True)
class Story:
    """The records of one log, in order."""

    told: tuple[Told, ...]

    def place(self, kind: type[Record], nth: int = 0) -> int:
        """Where the nth record of a kind stands (negative: from the end)."""
        return [at for at, told in enumerate(self.told) if type(told.record) is kind][nth]

    def seq(self, kind: type[Record], nth: int = 0) -> int:
        """Its entry number."""
        return self.place(kind, nth) + 1

    def record(self, kind: type[Record], nth: int = 0) -> Any:
        return self.told[self.place(kind, nth)].record

    def change(self, kind: type[Record], nth: int = 0, **changes: object) -> "Story":
        """The same story with one record told differently."""
        return self.instead(kind, nth, replace(self.record(kind, nth), **changes))

    def instead(self, kind: type[Record], nth: int, record: Record) -> "Story":
        """The same story with another record in one place."""
        place = self.place(kind, nth)
        told = replace(self.told[place], record=record)
        return Story((*self.told[:place], told, *self.told[place + 1 :]))

    def leave_out(self, kind: type[Record], nth: int = 0) -> "Story":
        """The same story without one record; its place is taken by a harmless one."""
        return self.instead(kind, nth, ClockAnomaly(1))

    def insert(self, place: int, record: Record) -> "Story":
        """The same story with one record more; references to later entries move along."""
        told = Told(record, self.told[min(place, len(self.told) - 1)].time_us)
        moved = tuple(replace(x, record=_moved(x.record, place + 1)) for x in self.told)
        return Story((*moved[:place], told, *moved[place:]))

    def add(self, record: Record) -> "Story":
        return Story((*self.told, Told(record, self.told[-1].time_us)))

    def delay(self, kind: type[Record], nth: int, by_us: int) -> "Story":
        """The same story with everything from one record on happening later."""
        place = self.place(kind, nth)
        later = tuple(replace(x, time_us=x.time_us + by_us) for x in self.told[place:])
        return Story((*self.told[:place], *later))


def _moved(record: Record, seq: int) -> Record:
    match record:
        case UpdatePublished(train_seq=train_seq) if train_seq >= seq:
            return replace(record, train_seq=train_seq + 1)
        case AggDone(own=own) if own.seq >= seq:
            return replace(record, own=replace(own, seq=own.seq + 1))
        case _:
            return record


def write(home: Path, story: Story) -> Path:
    """A real log with this story; records of the same time share a commit."""
    log = Log.create(
        home,
        deployment="test",
        identity=Signer(digest("identity")),
        log=Signer(digest("log")),
        witness_pk=Signer(digest("witness")).public_key,
        nonce=digest("nonce"),
        now_us=START_US,
    )
    try:
        told = list(story.told)
        while told:
            now_us = told[0].time_us
            count = next((i for i, x in enumerate(told) if x.time_us != now_us), len(told))
            log.append([x.record.draft("node") for x in told[:count]], now_us)
            del told[:count]
    finally:
        log.close()
    return home


def context_of(home: Path, **changes: Any) -> AuditContext:
    """What an audit of a home written here needs."""
    verification = verify_log(home, sigs=SigCheck.ALL)
    context = AuditContext(
        site=ME, verification=verification, now_us=START_US + 400 * DAY_US, names=NAMES
    )
    return replace(context, **changes)


def audited(home: Path, story: Story, **changes: Any) -> AuditReport:
    """Write the story and audit it."""
    write(home, story)
    replay = changes.pop("replay", None)
    accountant = changes.pop("epsilon_of", epsilon_of)
    context = context_of(home, **changes)
    reader = LogReader.open(home)
    try:
        return audit(reader.entries(), context, epsilon_of=accountant, replay=replay)
    finally:
        reader.close()


def codes(report: AuditReport) -> set[str]:
    return {found.code for found in report.findings}


def is_clean(report: AuditReport) -> bool:
    return report.exit_code is ExitCode.CLEAN and not report.findings


TERMS = DpTerms("gaussian", "9.1", "1", 1, "2.0", "1e-3", "pld", "0.6.0")
NO_PRIVACY = DpTerms("none", "0", "1", 0, "0", "0", "none", "0")


class Teller:
    """An honest site that lives and writes down what happens."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.told: list[Told] = []
        self.now_us = START_US
        self.spent: dict[bytes, list[DpTerms]] = {}
        self.totals_u: dict[bytes, int] = {}
        self.caps: dict[bytes, DatasetRegistered] = {}
        self.withdrawn: set[bytes] = set()
        self.open: dict[bytes, Plan] = {}
        self.peer_seqs = {peer: 10 * number for number, peer in enumerate(PEERS)}

    def tell(self, record: Record) -> int:
        """Write a record down. Returns its entry number."""
        self.told.append(Told(record, self.now_us))
        return len(self.told)

    def wait(self, up_to_us: int) -> None:
        """Sometimes time passes: each new time costs the real log a commit."""
        if self.random.random() < 0.1:
            self.now_us += self.random.randint(1, up_to_us)

    def register(self, number: int, cap_u: int, delta: str = "1e-3") -> bytes:
        ds = digest("dataset", number)
        record = DatasetRegistered(
            ds=ds,
            fp_commit=digest("content", number),
            patients_bucket=250,
            schema_hash=digest("schema"),
            legal_basis="art-9-2-j",
            dpia="dpia-2026-04",
            cap_u=cap_u,
            delta=delta,
        )
        self.tell(record)
        self.caps[ds] = record
        self.spent.setdefault(ds, [])
        return ds

    def reserved(self, ds: bytes) -> list[DpTerms]:
        """What open studies may still train on a dataset."""
        plans = [plan for plan in self.open.values() if plan.approval.ds == ds]
        return [plan.approval.dp for plan in plans for _ in range(plan.left)]

    def receive(self, study: bytes, round_: int, peer: bytes, verdict: str) -> UpdateReceived:
        self.peer_seqs[peer] += self.random.randint(1, 9)
        seq = self.peer_seqs[peer]
        reason = {"accepted": "", "rejected": "not-finite", "late": "after-the-round"}[verdict]
        record = UpdateReceived(
            study=study,
            round=round_,
            sender=peer,
            from_seq=seq,
            from_leaf=digest("leaf", peer, seq),
            from_head=digest("head", peer, seq),
            hash=digest("update", study, round_, peer, seq),
            verdict=verdict,
            reason=reason,
        )
        self.tell(record)
        return record

    def story(self) -> Story:
        return Story(tuple(self.told))


@dataclass(slots=True)
class Plan:
    """An approved study as the site goes through it."""

    approval: StudyApproved
    rounds: int
    consensus_rounds: int
    peers: tuple[bytes, ...]
    model: bytes
    trained: int = 0

    @property
    def study(self) -> bytes:
        return self.approval.study

    @property
    def left(self) -> int:
        return len(self.approval.eps_table_u) - 1 - self.trained


def approve(
    teller: Teller, ds: bytes, study: bytes, dp: DpTerms, rounds: int, expires_us: int
) -> StudyApproved | None:
    """Approve what fits under the cap, refuse what does not."""
    delta = teller.caps[ds].delta
    before = [*teller.spent[ds], *teller.reserved(ds)]
    table = tuple(epsilon_u([*before, *[dp] * count], delta) for count in range(rounds + 1))
    alone = tuple(epsilon_u([dp] * count, delta) for count in range(rounds + 1))
    if table[-1] > teller.caps[ds].cap_u:
        teller.tell(StudyRefused(study, "budget"))
        return None
    record = StudyApproved(
        study=study,
        role="data-owner",
        meaning="approval",
        approver_commit=digest("approver"),
        ds=ds,
        expires_us=expires_us,
        dp=dp,
        eps_table_u=table,
        eps_study_u=() if table == alone else alone,
    )
    teller.tell(record)
    return record


def train(teller: Teller, plan: Plan, round_: int, *, crash: bool = False) -> InputRef | None:
    """Train a round and publish it; None when the node dies in between."""
    approval, registered = plan.approval, teller.caps[plan.approval.ds]
    plan.trained += 1
    out = digest("trained", plan.study, round_, plan.model)
    total_u = approval.eps_table_u[plan.trained]
    record = TrainDone(
        study=plan.study,
        round=round_,
        ds=approval.ds,
        fp_commit=registered.fp_commit,
        code_hash=digest("code"),
        env_hash=digest("environment"),
        hp=digest("arguments"),
        base_model=plan.model,
        out_hash=out,
        dp=approval.dp,
        eps_u=(approval.eps_study_u or approval.eps_table_u)[plan.trained],
        eps_total_u=total_u,
    )
    teller.spent[approval.ds].append(approval.dp)
    seq = teller.tell(record)
    if crash:
        return None
    return InputRef(teller.tell(UpdatePublished(plan.study, round_, out, 140, seq)), out)


def average(
    teller: Teller,
    plan: Plan,
    round_: int,
    own: InputRef,
    received: Sequence[UpdateReceived],
) -> None:
    """Average what was accepted and go on from the result."""
    weight_u = (MICRO if own.seq < 0 else MICRO // 2) // len(received)
    inputs = tuple(
        AggInput(x.sender, digest("log", x.sender), x.from_seq, x.hash, weight_u) for x in received
    )
    verdicts = tuple(teller.random.choice(("kept", "clipped", "dropped")) for _ in inputs)
    plan.model = digest("average", plan.study, round_, own.hash, inputs)
    teller.tell(
        AggDone(
            study=plan.study,
            round=round_,
            own=own,
            inputs=inputs,
            rule="gm_clip",
            rule_params={"tau": "0.5"},
            verdicts=verdicts,
            env_hash=digest("environment"),
            out_hash=plan.model,
        )
    )


def finish(teller: Teller, plan: Plan, last: int) -> None:
    teller.tell(ModelReleased(plan.study, last, plan.model, "0.0123", len(plan.peers)))
    teller.tell(StudyClosed(plan.study, "complete", last + 1))
    teller.open.pop(plan.study, None)


def plain_story(
    *,
    rounds: int = 3,
    consensus_rounds: int = 1,
    dp: DpTerms = TERMS,
    cap_u: int = 10 * MICRO,
) -> Story:
    """One study from its proposal to its release, with two neighbours and one late update."""
    teller = Teller(Random(1))  # noqa: S311 -- a seed that repeats, not a secret
    teller.tell(RosterChanged(1, digest("roster"), len(NAMES)))
    ds = teller.register(1, cap_u)
    study = digest("study", 1)
    teller.tell(StudyProposed(study, PEERS[0]))
    approval = approve(teller, ds, study, dp, rounds, START_US + 90 * DAY_US)
    assert approval is not None
    plan = Plan(approval, rounds, consensus_rounds, PEERS[:2], digest("initial"))
    teller.now_us += DAY_US
    for round_ in range(rounds + consensus_rounds):
        own = step(teller, plan, round_)
        assert own is not None
        received = [teller.receive(study, round_, peer, "accepted") for peer in plan.peers]
        average(teller, plan, round_, own, received)
        if round_ == 0:
            teller.receive(study, round_, PEERS[2], "late")
    finish(teller, plan, rounds + consensus_rounds - 1)
    return teller.story()


def step(teller: Teller, plan: Plan, round_: int, *, crash: bool = False) -> InputRef | None:
    """The own model of a round: trained, or mixed only once the training rounds are over."""
    if round_ < plan.rounds:
        return train(teller, plan, round_, crash=crash)
    published = UpdatePublished(plan.study, round_, plan.model, 140, -1)
    return InputRef(teller.tell(published), plan.model)


# -- random lives -------------------------------------------------------------------------------


def random_story(seed: int) -> Story:
    """An honest history that depends on the seed alone."""
    random = Random(seed)  # noqa: S311 -- a seed that repeats, not a secret
    teller = Teller(random)
    teller.tell(RosterChanged(1, digest("roster"), len(NAMES)))
    for number in range(random.randint(1, 2)):
        teller.register(number, random.choice((2, 5, 50)) * MICRO, random.choice(("1e-3", "1e-5")))
    lives = [_study_life(teller, number) for number in range(random.randint(0, 4))]
    while lives:
        life = random.choice(lives)
        teller.wait(DAY_US // 24)
        if random.random() < 0.1:
            _happen(teller)
        if next(life, "over") == "over":
            lives.remove(life)
    return teller.story()


def _happen(teller: Teller) -> None:
    """Something that has nothing to do with a study's course."""
    random = teller.random
    ds = random.choice(sorted(teller.caps))
    match random.randint(0, 10):
        case 0:
            teller.tell(RosterChanged(2, digest("roster", 2), len(NAMES)))
        case 1:
            teller.tell(PeerMisbehaved(random.choice(PEERS), "BadSignature", 1))
        case 2:
            teller.tell(PolicyChanged(digest("policy")))
        case 3:
            teller.tell(ClockAnomaly(-250_000))
        case 4:
            teller.tell(NodeOfflineStart(4))
        case 5:
            teller.tell(AuditRun(0, 0))
        case 6:
            teller.tell(PeerHead(digest("log", PEERS[0]), 100, digest("root")))
        case 7:
            teller.tell(KeyRotated("transport", digest("old key"), digest("new key")))
        case 8:
            teller.tell(Redacted(2, "approver", "art-17"))
        case 9 if ds not in teller.withdrawn:
            _spend(teller, ds)
        case _ if random.random() < 0.5:
            _withdraw(teller, ds)
        case _:
            pass


def _spend(teller: Teller, ds: bytes) -> None:
    """A noised statistic, if it fits beside what is spent and reserved."""
    dp = DpTerms("gaussian", "20", "1", 1, "1", "1e-3", "pld", "0.6.0")
    total_u = epsilon_u([*teller.spent[ds], *teller.reserved(ds), dp], teller.caps[ds].delta)
    if total_u <= teller.caps[ds].cap_u:
        teller.spent[ds].append(dp)
        teller.tell(PrivacySpent(digest("no study"), ds, "column-means", dp, total_u))


def _withdraw(teller: Teller, ds: bytes) -> None:
    if ds in teller.withdrawn:
        return
    teller.withdrawn.add(ds)
    teller.tell(DatasetRevoked(ds, "owner-withdrew"))
    for plan in [x for x in teller.open.values() if x.approval.ds == ds]:
        teller.tell(StudyRevoked(plan.study, "dataset-revoked"))
        del teller.open[plan.study]


def _study_life(teller: Teller, number: int) -> Iterator[str]:
    """A study from its proposal to whatever end; every yield lets other things happen."""
    random = teller.random
    study = digest("study", number)
    teller.tell(StudyProposed(study, random.choice(PEERS)))
    yield "proposed"
    if random.random() < 0.15:
        teller.tell(StudyRefused(study, "owner-refused"))
        if random.random() < 0.5:
            return
        yield "refused"
    plan = _begin(teller, study)
    yield "decided"
    if plan is not None and plan.study in teller.open:
        yield from _rounds(teller, plan)


def _begin(teller: Teller, study: bytes) -> Plan | None:
    random = teller.random
    usable = sorted(set(teller.caps) - teller.withdrawn)
    if not usable:
        return None
    rounds = random.randint(1, 5)
    private = (
        TERMS,
        DpTerms("gaussian", "4", "1", 2, "1", "1e-3", "pld", "0.6.0"),
        DpTerms("poisson", "1.1", "0.05", 10, "1", "1e-3", "pld", "0.6.0"),
        DpTerms("gaussian", "1.5", "1", 1, "1", "1e-3", "pld", "0.6.0"),
    )
    dp = NO_PRIVACY if random.random() < 0.15 else random.choice(private)
    expires_us = teller.now_us + random.choice((DAY_US // 48, 90 * DAY_US))
    approval = approve(teller, random.choice(usable), study, dp, rounds, expires_us)
    if approval is None:
        return None
    peers = tuple(random.sample(PEERS, random.randint(1, len(PEERS))))
    plan = Plan(approval, rounds, random.randint(0, 2), peers, digest("initial", study))
    teller.open[study] = plan
    return plan


def _rounds(teller: Teller, plan: Plan) -> Iterator[str]:
    random, total = teller.random, plan.rounds + plan.consensus_rounds
    round_ = 0
    while round_ < total:
        yield "round"
        if plan.study not in teller.open:
            return
        if teller.now_us > plan.approval.expires_us:
            _leave(teller, plan, "expired", round_)
            return
        if random.random() < 0.05:
            teller.tell(StudyRevoked(plan.study, "owner-revoked"))
            del teller.open[plan.study]
            teller.receive(plan.study, round_, plan.peers[0], "late")
            return
        round_ = yield from _round(teller, plan, round_, total)
    if plan.study in teller.open:
        finish(teller, plan, total - 1)


def _leave(teller: Teller, plan: Plan, reason: str, rounds: int) -> None:
    teller.tell(StudyClosed(plan.study, reason, rounds))
    del teller.open[plan.study]


def _round(teller: Teller, plan: Plan, round_: int, total: int) -> Iterator[str]:
    """One round, or a catch-up; its value is the round that comes next."""
    random = teller.random
    if round_ + 2 < total and random.random() < 0.1:
        return _catch_up(teller, plan, round_, random.randint(round_ + 1, total - 2))
    if random.random() < 0.05:
        changes = {"learning_rate": "0.25"}
        teller.tell(StudySteered(plan.study, round_, digest("message", round_), changes))
    own = step(teller, plan, round_, crash=random.random() < 0.05)
    if own is None:
        teller.tell(RoundSkipped(plan.study, round_, "restarted"))
        return round_ + 1
    yield "published"
    if plan.study not in teller.open:
        return round_ + 1
    received = []
    for peer in plan.peers:
        verdict = random.choices(("accepted", "rejected", "silent"), (8, 1, 1))[0]
        if verdict != "silent":
            update = teller.receive(plan.study, round_, peer, verdict)
            received += [update] if verdict == "accepted" else []
    yield "gathered"
    if plan.study not in teller.open:
        return round_ + 1
    if not received:
        teller.tell(RoundSkipped(plan.study, round_, "too-few-neighbours"))
        return round_ + 1
    average(teller, plan, round_, own, received)
    silent = set(plan.peers) - {x.record.sender for x in teller.told if _of(x, plan, round_)}
    for peer in sorted(silent):
        teller.receive(plan.study, round_, peer, "late")
    return round_ + 1


def _of(told: Told, plan: Plan, round_: int) -> bool:
    record = told.record
    wanted = (plan.study, round_)
    return isinstance(record, UpdateReceived) and (record.study, record.round) == wanted


def _catch_up(teller: Teller, plan: Plan, round_: int, target: int) -> int:
    """Adopt the neighbours' newest rounds: `target` is the oldest of them."""
    for skipped in range(round_, target):
        teller.tell(RoundSkipped(plan.study, skipped, "catch-up"))
    newer = [target, *(target + teller.random.randint(0, 1) for _ in plan.peers[1:])]
    received = [
        teller.receive(plan.study, at, peer, "accepted")
        for at, peer in zip(newer, plan.peers, strict=True)
    ]
    average(teller, plan, target, InputRef(-1, plan.model), received)
    ahead = [update for update in received if update.round > target]
    if not ahead:
        return target + 1
    own = step(teller, plan, target + 1)
    assert own is not None
    for update in ahead:
        teller.tell(update)  # taken in once more, now in its own round
    average(teller, plan, target + 1, own, ahead)
    return target + 2
