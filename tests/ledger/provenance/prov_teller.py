"""An honest site that writes down what it does, and the plain story of one study."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from prov_stories import DAY_US, MICRO, NAMES, PEERS, START_US, Story, Told, digest, epsilon_u

from ledger.provenance.kinds import (
    AggDone,
    AggInput,
    DatasetRegistered,
    DpTerms,
    InputRef,
    KeyRotated,
    ModelReleased,
    Record,
    RosterChanged,
    StudyApproved,
    StudyClosed,
    StudyProposed,
    StudyRefused,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)

TERMS = DpTerms("gaussian", "9.1", "1", 1, "2.0", "1e-3", "pld", "0.6.0")
NO_PRIVACY = DpTerms("none", "0", "1", 0, "0", "0", "none", "0")


class Teller:
    """An honest site that lives and writes down what happens."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.told: list[Told] = []
        self.now_us = START_US
        self.spent: dict[bytes, list[DpTerms]] = {}
        self.caps: dict[bytes, DatasetRegistered] = {}
        self.withdrawn: set[bytes] = set()
        self.open: dict[bytes, Plan] = {}
        self.transport_keys = 0
        self.rule_params = {"tau": "0.5"}
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

    def rotate_transport(self) -> None:
        """The key after the newest one: each replaces the one that is in force."""
        self.transport_keys += 1
        old, new = (digest("transport", self.transport_keys - back) for back in (1, 0))
        self.tell(KeyRotated("transport", old, new))

    def log_id_of(self, peer: bytes) -> bytes:
        return digest("log", peer)

    def environment(self) -> bytes:
        return digest("environment")

    def trained(self, plan: "Plan", round_: int) -> bytes:
        """The model that a round of training makes."""
        return digest("trained", plan.study, round_, plan.model)

    def averaged(
        self, plan: "Plan", round_: int, own: InputRef, inputs: tuple[AggInput, ...]
    ) -> bytes:
        """The model that an average makes."""
        return digest("average", plan.study, round_, own.hash, inputs)

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
    out = teller.trained(plan, round_)
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
        AggInput(x.sender, teller.log_id_of(x.sender), x.from_seq, x.hash, weight_u)
        for x in received
    )
    verdicts = tuple(teller.random.choice(("kept", "clipped", "dropped")) for _ in inputs)
    plan.model = teller.averaged(plan, round_, own, inputs)
    teller.tell(
        AggDone(
            study=plan.study,
            round=round_,
            own=own,
            inputs=inputs,
            rule="gm_clip",
            rule_params=dict(teller.rule_params),
            verdicts=verdicts,
            env_hash=teller.environment(),
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
