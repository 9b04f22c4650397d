"""Random honest histories of one site: datasets, studies, crashes, refusals, revocations,
catch-ups and budgets, all from one seed. The tests of others may use `random_story`."""

from collections.abc import Iterator
from random import Random

from prov_stories import DAY_US, MICRO, NAMES, PEERS, Story, Told, digest, epsilon_u
from prov_teller import NO_PRIVACY, TERMS, Plan, Teller, approve, average, finish, step

from ledger.provenance.kinds import (
    AuditRun,
    ClockAnomaly,
    DatasetRevoked,
    DpTerms,
    InputRef,
    NodeOfflineStart,
    PeerHead,
    PeerMisbehaved,
    PolicyChanged,
    PrivacySpent,
    Redacted,
    RosterChanged,
    RoundSkipped,
    StudyClosed,
    StudyProposed,
    StudyRefused,
    StudyRevoked,
    StudySteered,
    UpdateReceived,
)


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
            teller.rotate_transport()
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
        message = digest("message", round_)
        teller.tell(StudySteered(plan.study, round_, message, changes, len(teller.told)))
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
